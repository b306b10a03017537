//! That plots can be read: no text covers another, none leaves the paper.

use super::*;
use crate::bench::outcome::Series;

fn series(name: &str, ys: &[f64]) -> Series {
    let point = |(x, y): (usize, &f64)| Point { x: x as f64, y: *y, low: y * 0.9, high: y * 1.1 };
    Series { name: name.into(), points: ys.iter().enumerate().map(point).collect() }
}

/// Texts that share room, and texts that do not fit.
pub fn unreadable(plot: &Plot) -> Vec<String> {
    let c = draw(plot);
    let mut found = Vec::new();
    for (i, a) in c.texts.iter().enumerate() {
        let [l, t, r, b] = a.room;
        if l < 0.0 || t < 0.0 || r > c.width || b > c.height {
            found.push(format!("`{}` leaves the paper", a.text));
        }
        for other in &c.texts[..i] {
            let [ol, ot, or, ob] = other.room;
            if l < or && ol < r && t < ob && ot < b {
                found.push(format!("`{}` covers `{}`", a.text, other.text));
            }
        }
    }
    found
}

fn grouped(series: Vec<Series>, categories: usize) -> Plot {
    let names = ["Keep-alive", "A connection per request", "Bulk", "connect(2): time", "idle"];
    Plot {
        name: "x".into(),
        title: "Throughput over the edge".into(),
        y: "times that of routed (more is better)".into(),
        series,
        categories: names.iter().cycle().take(categories).map(|s| (*s).into()).collect(),
        ..Plot::default()
    }
}

#[test]
fn bars_of_few_and_of_many_series_can_be_read() {
    let few = grouped(vec![series("gray", &[0.98, 0.95])], 2);
    let five = (0..5).map(|s| series(&format!("a path with a name {s}"), &[1.0, 0.4, 123_456.0])).collect();
    let many = (0..7).map(|s| series(&format!("series {s}"), &[1.0, 0.9, 0.8, 20.0, 3.0])).collect();
    for plot in [few, grouped(five, 3), grouped(many, 5)] {
        assert_eq!(unreadable(&plot), Vec::<String>::new(), "{}", render(&plot));
    }
}

#[test]
fn lines_over_one_and_over_six_decades_can_be_read() {
    for decades in [1, 3, 6] {
        let points =
            (0..=decades).map(|k| Point { x: 10_f64.powi(k), y: 50.0, low: 40.0, high: 70.0 }).collect();
        let plot = Plot {
            title: "Cost by resident flows".into(),
            x: "flows".into(),
            y: "ns per packet".into(),
            series: vec![Series { name: "gray".into(), points }],
            log_x: true,
            ..Plot::default()
        };
        assert_eq!(unreadable(&plot), Vec::<String>::new(), "{}", render(&plot));
    }
}

#[test]
fn nothing_to_draw_is_no_panic() {
    let _ = render(&Plot::default());
    let _ = render(&Plot { series: vec![series("a", &[f64::NAN])], ..Plot::default() });
    let text = render(&Plot { title: "a < b & \"c\"".into(), ..Plot::default() });
    assert!(text.contains("a &lt; b &amp; &quot;c&quot;"), "{text}");
}
