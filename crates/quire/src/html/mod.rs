//! Pages to look at: each has everything in it and asks no other host for anything.

pub(crate) mod plot;

use plot::escape;
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");

/// What a page ends with.
pub(crate) const END: &str = "</body></html>\n";

/// How a page begins: the command that made it, and what it is about.
pub(crate) fn begin(command: &str, name: &str) -> String {
    let name = escape(name);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}: {name}</title>\n<style>\n{STYLE}</style></head><body>\n<h1>{name}</h1>\n",
        escape(command)
    )
}

/// A heading, and a paragraph about what follows.
pub(crate) fn section(title: &str, text: &str) -> String {
    format!("<h2>{}</h2>\n<p>{}</p>\n", escape(title), escape(text))
}

/// A table: a row of names, and the others; the first `left` columns to the left.
pub(crate) fn sheet(rows: &[Vec<String>], left: usize) -> String {
    let mut text = String::from("<div class=\"wide\"><table>\n");
    for (number, row) in rows.iter().enumerate() {
        let tag = if number == 0 { "th" } else { "td" };
        text += "<tr>";
        for (at, field) in row.iter().enumerate() {
            let class = if at < left { " class=\"name\"" } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(text, "<{tag}{class}>{}</{tag}>", escape(field));
        }
        text += "</tr>\n";
    }
    text + "</table></div>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_names_and_fields_and_no_markup_of_others() {
        let rows = [["name", "n"], ["<b>", "1"]].map(|row| row.map(String::from).to_vec());
        let text = sheet(&rows, 1);
        assert!(text.contains("<tr><th class=\"name\">name</th><th>n</th></tr>"), "{text}");
        assert!(text.contains("<tr><td class=\"name\">&lt;b&gt;</td><td>1</td></tr>"), "{text}");
    }

    #[test]
    fn a_page_is_named_twice() {
        assert_eq!(begin("quire bench", "a&b").matches("a&amp;b").count(), 2);
    }
}
