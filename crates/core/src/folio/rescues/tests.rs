extern crate std;

use super::*;

const FOLIO: Order = Order::fitting(16);

/// A rescue of page `number` of the folio number `folio`.
fn rescue(rescues: &mut Rescues, folio: u64, number: u32) -> Option<Touched> {
    rescues.note(Space(0), Vpn(folio * 16), FOLIO, number)
}

fn touched(numbers: &[u32]) -> Touched {
    let mut touched = Touched::default();
    numbers.iter().for_each(|&number| touched.add(number));
    touched
}

#[test]
fn each_third_rescue_of_a_folio_tells_what_the_three_were_for() {
    let mut rescues = Rescues::new();
    for round in 0..2 {
        assert_eq!(rescue(&mut rescues, 1, 4), None, "round {round}");
        assert_eq!(rescue(&mut rescues, 2, 1), None, "round {round}: of another folio");
        assert_eq!(rescue(&mut rescues, 1, 9), None, "round {round}");
        assert_eq!(rescue(&mut rescues, 1, 4), Some(touched(&[4, 9])), "round {round}");
        assert_eq!(rescues.note(Space(0), Vpn(16), FOLIO.up(), 4), None, "of another size");
        assert_eq!(rescues.note(Space(1), Vpn(16), FOLIO, 4), None, "of another space");
    }
}

#[test]
fn the_folio_noted_first_is_forgotten_first() {
    let mut rescues = Rescues::new();
    let twice = |rescues: &mut Rescues, folio| (0..2).for_each(|_| _ = rescue(rescues, folio, 0));
    let all = RESCUED as u64;
    (0..all + 2).for_each(|folio| twice(&mut rescues, folio));
    assert_eq!(rescues.folios.len(), RESCUED, "a table of fixed size");
    for folio in 2..all + 2 {
        assert!(rescue(&mut rescues, folio, 0).is_some(), "folio {folio} is remembered");
    }
    assert_eq!(rescue(&mut rescues, 0, 0), None);
    assert_eq!(rescue(&mut rescues, 1, 0), None);
}
