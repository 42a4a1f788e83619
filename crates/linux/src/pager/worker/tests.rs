//! What is served of stored bytes: nothing but the page that was stored.

use super::*;
use crate::codec::Secret;

fn noise(mut seed: u64) -> Page {
    core::array::from_fn(|_| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 56) as u8
    })
}

/// Pages that are stored in each form; `version` tells pages of one form apart.
fn page_of(form: Form, version: u64) -> Page {
    let noise = noise(version);
    match form {
        Form::Raw => noise,
        Form::Zstd => noise.map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]),
        Form::Lz4 => core::array::from_fn(|i| if i < 256 { noise[i] } else { noise[i / 64] }),
    }
}

const FORMS: [Form; 3] = [Form::Raw, Form::Lz4, Form::Zstd];

/// The codec, and what a page of a form is stored as.
struct Store {
    codec: Codec,
}

impl Store {
    fn new() -> Store {
        Store { codec: Codec::new(&Secret::random().unwrap()).unwrap() }
    }

    fn store(&mut self, form: Form, version: u64) -> (Vec<u8>, Stored) {
        let page = page_of(form, version);
        let mut out = [0; ROOM];
        let packed = self.codec.pack(&page, None, false, &mut out);
        let (bytes, hash) = match packed {
            Packed::Raw { hash } => (page.to_vec(), hash),
            Packed::Small { len, hash } => (out[..usize::from(len)].to_vec(), hash),
            other => panic!("{form:?} is {other:?}"),
        };
        assert_eq!((Form::of(&bytes), stored_len(packed)), (Some(form), bytes.len()));
        let stored = Stored { place: Place::Ram { at: 0 }, len: bytes.len() as u16, hash };
        (bytes, stored)
    }

    /// Whether the bytes are taken for the page that `stored` tells of; what is taken for it is it.
    fn serves(&mut self, bytes: &[u8], stored: &Stored, page: &Page) -> bool {
        let mut back = [0xee; PAGE_SIZE];
        let good = unpack(&mut self.codec, &mut back, bytes, stored);
        assert!(!good || back == *page, "another page is served");
        good
    }
}

#[test]
fn what_was_stored_comes_back() {
    let mut store = Store::new();
    for form in FORMS {
        let (bytes, stored) = store.store(form, 1);
        assert!(store.serves(&bytes, &stored, &page_of(form, 1)), "{form:?}");
    }
}

#[test]
fn a_changed_bit_is_never_served() {
    let mut store = Store::new();
    for form in FORMS {
        let (bytes, stored) = store.store(form, 1);
        let mut same = 0;
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let served = store.serves(&damaged, &stored, &page_of(form, 1));
            // What is compressed may say the same in two ways: a header, or where a repeated byte is copied from.
            assert!(!served || form != Form::Raw, "byte {at}");
            same += u32::from(served);
        }
        assert!(same as usize <= bytes.len() / 8, "{form:?}: {same} of {} bytes say nothing", bytes.len());
    }
}

#[test]
fn a_torn_copy_is_never_served() {
    let mut store = Store::new();
    for form in FORMS {
        let (new, stored) = store.store(form, 1);
        let (old, _) = store.store(form, 2);
        for sector in (512..new.len()).step_by(512) {
            for rest in [old.get(sector..new.len()).unwrap_or_default().to_vec(), vec![0; new.len() - sector]]
            {
                let mut torn = new[..sector].to_vec();
                torn.extend_from_slice(&rest);
                torn.resize(new.len(), 0);
                assert!(!store.serves(&torn, &stored, &page_of(form, 1)), "{form:?}, torn at {sector}");
            }
        }
    }
}

#[test]
fn an_old_copy_is_never_served() {
    let mut store = Store::new();
    for form in FORMS {
        let (_, stored) = store.store(form, 1);
        for older in FORMS {
            let (old, _) = store.store(older, 2);
            assert!(!store.serves(&old, &stored, &page_of(form, 1)), "{older:?} for {form:?}");
        }
    }
}

#[test]
fn nothing_and_what_is_none_of_ours_is_never_served() {
    let mut store = Store::new();
    for form in FORMS {
        let (bytes, stored) = store.store(form, 1);
        let page = page_of(form, 1);
        assert!(!store.serves(&[], &stored, &page));
        assert!(!store.serves(&bytes[..bytes.len() - 1], &stored, &page), "{form:?} cut short");
        assert!(!store.serves(&[0; 100], &stored, &page));
        assert!(!store.serves(&[0; PAGE_SIZE], &stored, &page));
    }
}

#[test]
fn damage_says_where_and_in_what_form() {
    let forms = [None, Some(Form::Raw), Some(Form::Lz4), Some(Form::Zstd)];
    let mut seen = Vec::new();
    for in_file in [false, true] {
        for form in forms {
            let damage = Damage { in_file, form };
            assert_eq!(Damage::decode(damage.encode()), damage);
            assert_ne!(damage.encode(), 0);
            seen.push(damage.to_string());
        }
    }
    let ram =
        "came back different. The program may write where it should not, or the machine's memory be at fault";
    let disk = "came back different. Check that disk, or run with --no-spill";
    assert_eq!(
        seen,
        [
            format!("a page that was stored in some way in RAM {ram}"),
            format!("a page that was stored as it was in RAM {ram}"),
            format!("a page that was stored by lz4 in RAM {ram}"),
            format!("a page that was stored by zstd in RAM {ram}"),
            format!("a page that was stored in some way in the spill file {disk}"),
            format!("a page that was stored as it was in the spill file {disk}"),
            format!("a page that was stored by lz4 in the spill file {disk}"),
            format!("a page that was stored by zstd in the spill file {disk}"),
        ]
    );
}
