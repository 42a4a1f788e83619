//! A page to be drawn.

use super::{any, words};
use quire_sim::rng::Rng;
use std::io::{self, Write};

/// PostScript of one page of A4: `shapes` filled shapes all over it, and a fifth as many lines of text.
pub(crate) fn drawing(file: &mut dyn Write, shapes: u64, rng: &mut Rng) -> io::Result<()> {
    writeln!(file, "%!PS-Adobe-3.0\n<< /PageSize [595 842] >> setpagedevice")?;
    for _ in 0..shapes {
        let [red, green, blue] = [0; 3].map(|_| rng.below(1000) as f64 / 1000.0);
        write!(file, "{red} {green} {blue} setrgbcolor")?;
        for _ in 0..2 {
            write!(file, " {}", rng.below(900) as i64 - 50)?;
        }
        write!(file, " moveto")?;
        for _ in 0..6 {
            write!(file, " {}", rng.below(900) as i64 - 50)?;
        }
        let [x, y] = [0; 2].map(|_| rng.below(900) as i64 - 50);
        writeln!(file, " curveto {x} {y} lineto closepath fill")?;
    }
    writeln!(file, "/Helvetica findfont 7 scalefont setfont 0 setgray")?;
    let words = words(rng);
    for _ in 0..shapes / 5 {
        let [x, y] = [rng.below(500), rng.below(840)];
        writeln!(file, "{x} {y} moveto ({} {}) show", any(&words, rng), any(&words, rng))?;
    }
    writeln!(file, "showpage")
}
