//! What a terminal shows: columns under each other, lines of a width, and one line that says how far something is.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

/// Rows with their columns under each other: the first `left` to the left, numbers to the right.
pub(crate) fn align(rows: &[Vec<String>], left: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (at, (field, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            // Writing to a string cannot fail.
            let _ = if at < left {
                write!(text, "{gap}{field:<width$}")
            } else {
                write!(text, "{gap}{field:>width$}")
            };
        }
        text.push('\n');
    }
    text
}

/// Words in lines of at most `width` characters, each behind `indent` spaces. A longer word has a line of its own.
pub(crate) fn wrap(words: &str, indent: usize, width: usize) -> String {
    let mut text = String::new();
    let mut used = 0;
    for word in words.split_whitespace() {
        let long = word.chars().count();
        if used > 0 && used + 1 + long <= width {
            text.push(' ');
            used += 1 + long;
        } else {
            text += if used > 0 { "\n" } else { "" };
            text += &" ".repeat(indent);
            text += word;
            used = indent + long;
            continue;
        }
        text += word;
    }
    if used > 0 { text + "\n" } else { text }
}

/// The beginning of a text, if it is longer than `width` characters.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    text.chars().take(width.saturating_sub(1)).chain(['~']).collect()
}

/// A bar of `width` characters, of which a share is full.
pub(crate) fn bar(share: f64, width: usize) -> String {
    let full = ((share * width as f64) as usize).min(width);
    format!("[{}{}]", "#".repeat(full), ".".repeat(width - full))
}

/// One line on stderr that is written over and over. Nothing is drawn where nobody sees it.
#[derive(Debug)]
pub(crate) struct Line {
    shown: bool,
    drawn: bool,
}

impl Line {
    /// The line, if stderr is a terminal.
    pub(crate) fn new(quiet: bool) -> Line {
        Line { shown: !quiet && io::stderr().is_terminal(), drawn: false }
    }

    /// Writes over what was there.
    pub(crate) fn draw(&mut self, text: impl FnOnce() -> String) {
        if self.shown {
            // Who does not see it loses nothing.
            let _ = write!(io::stderr(), "\r{}\x1b[K", text());
            self.drawn = true;
        }
    }

    /// Takes the line away, so that others may write.
    pub(crate) fn clear(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.drawn = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["a", "b", "c", "n"], ["long", "b", "c", "10"]];
        let text = align(&rows.map(|row| row.map(String::from).to_vec()), 3);
        assert_eq!(text, "a     b  c   n\nlong  b  c  10\n");
    }

    #[test]
    fn words_stay_within_the_width() {
        assert_eq!(wrap("one two three", 2, 9), "  one two\n  three\n");
        assert_eq!(wrap("a word/that/is/long b", 1, 8), " a\n word/that/is/long\n b\n");
        assert_eq!(wrap(" ", 4, 8), "");
    }

    #[test]
    fn only_what_is_too_long_is_cut() {
        assert_eq!(
            ["four", "fives", "\u{fc}\u{fc}\u{fc}\u{fc}"].map(|text| cut(text, 4)),
            ["four", "fiv~", "\u{fc}\u{fc}\u{fc}\u{fc}"]
        );
    }

    #[test]
    fn a_bar_is_as_full_as_its_share() {
        assert_eq!([0.0, 0.5, 1.0, 1.5].map(|share| bar(share, 4)), ["[....]", "[##..]", "[####]", "[####]"]);
    }
}
