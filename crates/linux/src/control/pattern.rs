//! Patterns on names of programs, as a shell has them: `*`, `?`, `[..]`, `[!..]` and `\`.
//!
//! A pattern with a slash is held against the whole path, another against the last part of it. Nothing here allocates: it
//! runs in a program before anything of it does.

/// The environment variable that holds the patterns of programs that are left alone, with colons in between.
pub const EXCLUDE_VARIABLE: &str = "QUIRE_EXCLUDE";

/// Whether one of the patterns of `list` fits the program at `path`.
pub fn any_fits(list: &[u8], path: &[u8]) -> bool {
    list.split(|byte| *byte == b':').any(|pattern| !pattern.is_empty() && fits_program(pattern, path))
}

fn fits_program(pattern: &[u8], path: &[u8]) -> bool {
    if pattern.contains(&b'/') { fits(pattern, path) } else { fits(pattern, base_name(path)) }
}

/// What is behind the last slash.
pub fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether `pattern` fits all of `text`. A star also stands for slashes and dots.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on with the last star taking one byte more.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
        } else if let Some(next) = step(pattern, p, text[t]) {
            (p, t) = (next, t + 1);
        } else if let Some((after, taken)) = star {
            (p, t) = (after, taken + 1);
            star = Some((after, taken + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Where the pattern goes on if what it has at `at` fits `byte`.
fn step(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        b'[' => match set(pattern, at + 1, byte) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            // Without an end it is a bracket.
            None => (byte == b'[').then_some(at + 1),
        },
        own => (own == byte).then_some(at + 1),
    }
}

/// Whether `byte` is of the set that begins at `at`, and where the pattern goes on; `None` if the set has no end.
fn set(pattern: &[u8], mut at: usize, byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(at)?, b'!' | b'^');
    at += usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((found != negated, at + 1));
        }
        let range = pattern.get(at + 1) == Some(&b'-') && pattern.get(at + 2).is_some_and(|end| *end != b']');
        let high = if range { pattern[at + 2] } else { low };
        found |= (low..=high).contains(&byte);
        at += if range { 3 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        let fitting = [
            ("php", "php"),
            ("php*", "php8.2"),
            ("*", ""),
            ("*.py", "a.b.py"),
            ("a*b*c", "aXbYbZc"),
            ("?s", "ls"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]]", "]"),
            ("[x", "[x"),
            ("a-[-z]", "a--"),
            ("\\*", "*"),
            ("***", "x"),
        ];
        for (pattern, text) in fitting {
            assert!(fits(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        let others = [
            ("php", "php8"),
            ("", "a"),
            ("?", ""),
            ("[a-c]", "d"),
            ("[!a-c]", "a"),
            ("a*b", "aXbc"),
            ("\\*", "x"),
            ("ls", "LS"),
        ];
        for (pattern, text) in others {
            assert!(!fits(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_with_a_slash_is_for_the_whole_path() {
        for list in ["ls", "x:ls", "ls:", "/usr/bin/*", "*/bin/l?", ":/usr/bin/ls"] {
            assert!(any_fits(list.as_bytes(), b"/usr/bin/ls"), "{list}");
        }
        for list in ["", ":", "bin", "/bin/ls", "usr/bin/ls", "l"] {
            assert!(!any_fits(list.as_bytes(), b"/usr/bin/ls"), "{list}");
        }
    }
}
