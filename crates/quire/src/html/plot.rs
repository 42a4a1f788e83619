//! Bars and lines, as inline SVG that stretches with the page: text stands beside it, so that it keeps its size.

use std::fmt::Write as _;

/// Colours that are told apart from their neighbours.
pub(crate) const COLOURS: [&str; 10] = [
    "#4878a8", "#e0903a", "#c4504a", "#63a58f", "#8a6fb0", "#d3b13f", "#a86a4c", "#d98ca5", "#8c9099",
    "#5f9a3d",
];

/// Colours from small to large.
pub(crate) const RAMP: [&str; 10] = [
    "#f2d16b", "#e8b45f", "#dd9657", "#cf7953", "#bd5f55", "#a5495c", "#883a64", "#693068", "#482963",
    "#292250",
];

/// Text that may hold anything.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One part of a bar.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) value: f64,
    pub(crate) colour: &'static str,
    /// What is said of it when it is pointed at.
    pub(crate) says: String,
}

/// One bar, with its name and its value as text.
#[derive(Clone, Default, Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: String,
    pub(crate) parts: Vec<Part>,
    /// A mark at some value.
    pub(crate) mark: Option<f64>,
    /// Between which values the true one is.
    pub(crate) interval: Option<(f64, f64)>,
    /// Single values, of which the bar says the middle.
    pub(crate) dots: Vec<f64>,
}

impl Bar {
    fn length(&self) -> f64 {
        let marks =
            self.mark.into_iter().chain(self.interval.map(|(_, high)| high)).chain(self.dots.iter().copied());
        marks.fold(self.parts.iter().map(|part| part.value).sum(), f64::max)
    }
}

/// What colours mean.
pub(crate) fn key<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("<ul class=\"key\">");
    for (name, colour) in entries {
        let _ = write!(text, "<li><i style=\"background:{colour}\"></i>{}</li>", escape(name));
    }
    text + "</ul>\n"
}

/// Groups of bars, all to one scale.
pub(crate) fn bars(groups: &[(String, Vec<Bar>)]) -> String {
    let longest = groups.iter().flat_map(|(_, bars)| bars).map(Bar::length).fold(0.0, f64::max);
    let percent = |value: f64| if longest > 0.0 { 100.0 * value / longest } else { 0.0 };
    let mut text = String::from("<div class=\"bars\">\n");
    for (name, bars) in groups {
        if !name.is_empty() {
            let _ = writeln!(text, "<div class=\"group\">{}</div>", escape(name));
        }
        for bar in bars {
            // On a narrow page the bar comes below its name and value, on a wide one between them.
            let _ = write!(
                text,
                "<div class=\"label\">{}</div><div class=\"value\">{}</div>",
                escape(&bar.label),
                escape(&bar.value)
            );
            let _ = write!(text, "<svg role=\"img\" aria-label=\"{}\">", escape(&bar.value));
            let mut at = 0.0;
            for part in bar.parts.iter().filter(|part| part.value > 0.0) {
                let (x, width) = (percent(at), percent(part.value));
                let _ = write!(
                    text,
                    "<rect x=\"{x:.3}%\" width=\"{width:.3}%\" height=\"100%\" fill=\"{}\"><title>{}</title></rect>",
                    part.colour,
                    escape(&part.says)
                );
                at += part.value;
            }
            if let Some(mark) = bar.mark {
                let x = percent(mark).min(99.6);
                let _ =
                    write!(text, "<rect x=\"{x:.3}%\" width=\"2\" height=\"100%\" fill=\"currentColor\"/>");
            }
            text += &bar.interval.map_or(String::new(), |(low, high)| stretch(percent(low), percent(high)));
            for dot in &bar.dots {
                let x = percent(*dot).min(99.6);
                let _ = write!(text, "<circle class=\"dot\" cx=\"{x:.3}%\" cy=\"50%\" r=\"3\"/>");
            }
            text += "</svg>\n";
        }
    }
    text + "</div>\n"
}

/// A thin line with its two ends, in percent.
fn stretch(low: f64, high: f64) -> String {
    let width = high - low;
    let mut text = format!(
        "<rect x=\"{low:.3}%\" y=\"45%\" width=\"{width:.3}%\" height=\"10%\" fill=\"currentColor\"/>"
    );
    for end in [low, high] {
        let x = end.min(99.6);
        let _ =
            write!(text, "<rect x=\"{x:.3}%\" y=\"20%\" width=\"2\" height=\"60%\" fill=\"currentColor\"/>");
    }
    text
}

/// One line: its points from left to right.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) colour: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines in one frame, with what stands above it and at both ends below it.
pub(crate) fn lines(top: &str, right: &str, lines: &[Line]) -> String {
    let most = |pick: fn(&(f64, f64)) -> f64| {
        lines.iter().flat_map(|line| &line.points).map(pick).fold(f64::MIN_POSITIVE, f64::max)
    };
    let (width, height) = (most(|p| p.0), most(|p| p.1));
    let mut text = format!("<div class=\"lines\"><div class=\"axis\"><span>{}</span></div>", escape(top));
    text += "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\">";
    for line in lines {
        let _ = write!(
            text,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" vector-effect=\"non-scaling-stroke\" points=\"",
            line.colour
        );
        for (x, y) in &line.points {
            let _ = write!(text, "{:.1},{:.1} ", 1000.0 * x / width, 990.0 - 970.0 * y / height);
        }
        text += "\"/>";
    }
    text + &format!("</svg><div class=\"axis\"><span>0</span><span>{}</span></div></div>\n", escape(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_share_a_scale_and_text_is_escaped() {
        let part = |value| Part { value, colour: "#000", says: "a<b".into() };
        let bar = |value| Bar {
            label: "x".into(),
            value: String::new(),
            parts: vec![part(value), part(0.0)],
            ..Bar::default()
        };
        let text = bars(&[("g&".into(), vec![bar(1.0), bar(4.0)])]);
        assert!(text.contains("width=\"25.000%\"") && text.contains("width=\"100.000%\""), "{text}");
        assert!(text.contains("a&lt;b") && text.contains("g&amp;"), "{text}");
        assert_eq!(text.matches("<rect").count(), 2);
    }

    #[test]
    fn an_interval_and_dots_are_within_the_scale() {
        let bar =
            Bar { interval: Some((1.0, 4.0)), dots: vec![1.0, 2.0, 8.0], mark: Some(1.0), ..Bar::default() };
        let text = bars(&[(String::new(), vec![bar])]);
        assert!(text.contains("x=\"12.500%\" y=\"45%\" width=\"37.500%\""), "{text}");
        assert!(text.contains("x=\"50.000%\" y=\"20%\""), "{text}");
        let at = |x: &str| text.contains(&format!("cx=\"{x}%\""));
        assert!(at("12.500") && at("25.000") && at("99.600"), "{text}");
    }
}
