//! An SVG that is being drawn: shapes, and texts that know how much room they take. It knows no plots.

use std::fmt::Write as _;

/// Colours for a light page and for a dark one; `s0` .. are of series, grey first: it is what others are compared with.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2328}
.bg{fill:#ffffff}.quiet{fill:#59636e}.grid{stroke:#d8dee4}.axis{stroke:#59636e}.whisker{stroke:#1f2328}
.s0{fill:#9aa4af;stroke:#9aa4af}.s1{fill:#2f7de1;stroke:#2f7de1}.s2{fill:#e08a2c;stroke:#e08a2c}.s3{fill:#2fa36b;stroke:#2fa36b}
.s4{fill:#a371c9;stroke:#a371c9}.s5{fill:#d6546a;stroke:#d6546a}.s6{fill:#1fa3b5;stroke:#1fa3b5}.line{fill:none}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bg{fill:#0d1117}.quiet{fill:#9198a1}.grid{stroke:#30363d}.axis{stroke:#9198a1}
.whisker{stroke:#e6edf3}}
";

/// How many colours there are.
pub const COLOURS: usize = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// The room that a text takes: left, top, right, bottom.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    pub text: String,
    pub room: [f64; 4],
}

#[derive(Debug)]
pub struct Canvas {
    pub width: f64,
    pub height: f64,
    body: String,
    pub texts: Vec<Taken>,
}

/// A text to draw.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    pub x: f64,
    /// Of the baseline.
    pub y: f64,
    pub size: f64,
    pub anchor: Anchor,
    /// Reads upwards.
    pub upright: bool,
    pub class: &'a str,
    pub text: &'a str,
}

/// Of a usual sans serif; a little too much rather than too little.
pub fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.56
}

impl Canvas {
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new(), texts: Vec::new() }
    }

    pub fn text(&mut self, t: Text<'_>) {
        let (w, up, down) = (width_of(t.text, t.size), t.size * 0.8, t.size * 0.25);
        let from = match t.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => -w / 2.0,
            Anchor::End => -w,
        };
        let room = if t.upright {
            [t.x - up, t.y - from - w, t.x + down, t.y - from]
        } else {
            [t.x + from, t.y - up, t.x + from + w, t.y + down]
        };
        self.texts.push(Taken { text: t.text.into(), room });
        let anchor = match t.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let turn = if t.upright {
            format!(" transform=\"rotate(-90 {:.1} {:.1})\"", t.x, t.y)
        } else {
            String::new()
        };
        let _ = writeln!(
            self.body,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"{}\" text-anchor=\"{anchor}\" class=\"{}\"{turn}>{}</text>",
            t.x,
            t.y,
            t.size,
            t.class,
            escape(t.text)
        );
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64), thick: f64) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\" stroke-width=\"{thick}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    pub fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\" stroke=\"none\"/>"
        );
    }

    pub fn circle(&mut self, class: &str, at: (f64, f64), radius: f64) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\" class=\"{class}\"/>",
            at.0, at.1
        );
    }

    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let list: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.body,
            "<polyline points=\"{}\" class=\"{class} line\" stroke-width=\"2\"/>",
            list.join(" ")
        );
    }

    /// An interval around a value, with its ends.
    pub fn whisker(&mut self, x: f64, from: f64, to: f64) {
        self.line("whisker", (x, from), (x, to), 1.0);
        self.line("whisker", (x - 3.0, from), (x + 3.0, from), 1.0);
        self.line("whisker", (x - 3.0, to), (x + 3.0, to), 1.0);
    }

    pub fn finish(self, title: &str) -> String {
        let (w, h) = (self.width, self.height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" height=\"{h:.0}\" role=\"img\">\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n<rect class=\"bg\" width=\"{w:.0}\" height=\"{h:.0}\"/>\n{}</svg>\n",
            escape(title),
            self.body
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
