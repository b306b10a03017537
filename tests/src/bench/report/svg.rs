//! Plots as SVG: groups of bars with intervals, or lines. Same plot, same bytes.

use super::canvas::{Anchor, COLOURS, Canvas, Text, width_of};
use super::scale::{Scale, figure, tick, ticks};
use crate::bench::outcome::{Plot, Point};

const WIDTH: f64 = 800.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
/// Of the drawing between the axes.
const TALL: f64 = 280.0;

pub fn render(plot: &Plot) -> String {
    draw(plot).finish(&plot.title)
}

fn draw(plot: &Plot) -> Canvas {
    let labels: Vec<Vec<String>> = plot.categories.iter().map(|c| wrap(c, group(plot) - 8.0)).collect();
    let lines = labels.iter().map(Vec::len).max().unwrap_or(1) as f64;
    let legend = legend_rows(plot);
    let top = 56.0 + legend.len() as f64 * 18.0;
    let below = 14.0 + lines * 15.0 + if plot.x.is_empty() { 0.0 } else { 22.0 };
    let mut c = Canvas::new(WIDTH, top + TALL + below + 12.0);
    c.text(words(16.0, 26.0, 16.0, &plot.title));
    for (row, entries) in legend.iter().enumerate() {
        let y = 50.0 + row as f64 * 18.0;
        for (x, s) in entries {
            c.rect(&class(plot, *s), *x, y - 10.0, 12.0, 12.0);
            c.text(words(x + 17.0, y, 12.0, &plot.series[*s].name));
        }
    }
    let y = vertical(&mut c, plot, top);
    if plot.categories.is_empty() {
        lines_and_points(&mut c, plot, &y, top);
    } else {
        bars(&mut c, plot, &y, top, &labels);
    }
    let x_title = Text {
        anchor: Anchor::Middle,
        class: "quiet",
        ..words((LEFT + WIDTH - RIGHT) / 2.0, c.height - 14.0, 12.0, &plot.x)
    };
    if !plot.x.is_empty() {
        c.text(x_title);
    }
    c
}

fn words(x: f64, y: f64, size: f64, text: &str) -> Text<'_> {
    Text { x, y, size, anchor: Anchor::Start, upright: false, class: "", text }
}

/// Grey is for what others are compared with; a series without company is not.
fn class(plot: &Plot, series: usize) -> String {
    let first = usize::from(plot.series.len() == 1);
    format!("s{}", (series + first) % COLOURS)
}

/// The legend's entries by row: where each begins, and whose it is.
fn legend_rows(plot: &Plot) -> Vec<Vec<(f64, usize)>> {
    let mut rows = vec![Vec::new()];
    let mut x = 16.0;
    if plot.series.len() == 1 && plot.series[0].name.is_empty() {
        return Vec::new();
    }
    for (s, series) in plot.series.iter().enumerate() {
        let width = 17.0 + width_of(&series.name, 12.0) + 18.0;
        if x + width > WIDTH - 8.0 && x > 16.0 {
            rows.push(Vec::new());
            x = 16.0;
        }
        if let Some(row) = rows.last_mut() {
            row.push((x, s));
        }
        x += width;
    }
    rows
}

/// The y axis from 0, its ticks across the drawing, and its title.
fn vertical(c: &mut Canvas, plot: &Plot, top: f64) -> Scale {
    let high = points(plot).map(|p| p.y.max(p.high)).fold(0.0, f64::max);
    let (at, step) = ticks(high * 1.08);
    let scale = Scale::linear((0.0, at.last().copied().unwrap_or(1.0)), top + TALL, top);
    for value in at {
        let y = scale.at(value);
        let line = if value == 0.0 { "axis" } else { "grid" };
        c.line(line, (LEFT, y), (WIDTH - RIGHT, y), 1.0);
        c.text(Text {
            anchor: Anchor::End,
            class: "quiet",
            ..words(LEFT - 8.0, y + 4.0, 12.0, &tick(value, step))
        });
    }
    let middle = top + TALL / 2.0;
    c.text(Text {
        anchor: Anchor::Middle,
        upright: true,
        class: "quiet",
        ..words(22.0, middle, 12.0, &plot.y)
    });
    scale
}

fn points(plot: &Plot) -> impl Iterator<Item = &Point> {
    plot.series.iter().flat_map(|s| &s.points).filter(|p| p.y.is_finite())
}

/// Room of one category.
fn group(plot: &Plot) -> f64 {
    (WIDTH - LEFT - RIGHT) / plot.categories.len().max(1) as f64
}

fn bars(c: &mut Canvas, plot: &Plot, y: &Scale, top: f64, labels: &[Vec<String>]) {
    let group = group(plot);
    let pitch = (group * 0.86 / plot.series.len().max(1) as f64).min(90.0);
    for (s, series) in plot.series.iter().enumerate() {
        for p in series.points.iter().filter(|p| p.y.is_finite()) {
            let middle = LEFT + group * (p.x + 0.5);
            let left = middle + pitch * (s as f64 - plot.series.len() as f64 / 2.0);
            let (at, floor) = (y.at(p.y), y.at(0.0));
            c.rect(&class(plot, s), left + 1.5, at, pitch - 3.0, floor - at);
            let mut above = at;
            if has_interval(p) {
                c.whisker(left + pitch / 2.0, y.at(p.low), y.at(p.high));
                above = above.min(y.at(p.high));
            }
            let text = figure(p.y);
            let upright = width_of(&text, 11.0) > pitch - 1.0;
            let (x, anchor) = if upright {
                (left + pitch / 2.0 + 4.0, Anchor::Start)
            } else {
                (left + pitch / 2.0, Anchor::Middle)
            };
            c.text(Text { anchor, upright, ..words(x, above - 5.0, 11.0, &text) });
        }
    }
    for (k, lines) in labels.iter().enumerate() {
        for (row, line) in lines.iter().enumerate() {
            let at = (LEFT + group * (k as f64 + 0.5), top + TALL + 18.0 + row as f64 * 15.0);
            c.text(Text { anchor: Anchor::Middle, ..words(at.0, at.1, 12.0, line) });
        }
    }
}

fn has_interval(p: &Point) -> bool {
    p.low < p.high && p.low.is_finite() && p.high.is_finite()
}

fn lines_and_points(c: &mut Canvas, plot: &Plot, y: &Scale, top: f64) {
    let xs = || points(plot).map(|p| p.x).filter(|x| !plot.log_x || *x > 0.0);
    let (low, high) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        return;
    }
    let (from, to) = (LEFT + 12.0, WIDTH - RIGHT - 12.0);
    let x = if plot.log_x {
        Scale::log((low, high), from, to)
    } else {
        Scale::linear((low.min(0.0), high), from, to)
    };
    let floor = top + TALL;
    let (at, step) = if plot.log_x { (decades(low, high), 1.0) } else { ticks(high) };
    for value in at.into_iter().filter(|v| *v >= low.min(0.0) && *v <= high) {
        c.line("axis", (x.at(value), floor), (x.at(value), floor + 4.0), 1.0);
        let text = tick(value, step);
        c.text(Text {
            anchor: Anchor::Middle,
            class: "quiet",
            ..words(x.at(value), floor + 18.0, 12.0, &text)
        });
    }
    for (s, series) in plot.series.iter().enumerate() {
        let mut drawn: Vec<&Point> =
            series.points.iter().filter(|p| p.y.is_finite() && (!plot.log_x || p.x > 0.0)).collect();
        drawn.sort_by(|a, b| a.x.total_cmp(&b.x));
        let places: Vec<(f64, f64)> = drawn.iter().map(|p| (x.at(p.x), y.at(p.y))).collect();
        c.path(&class(plot, s), &places);
        for (p, place) in drawn.iter().zip(&places) {
            if has_interval(p) {
                c.whisker(place.0, y.at(p.low), y.at(p.high));
            }
            c.circle(&class(plot, s), *place, if drawn.len() > 40 { 1.5 } else { 3.5 });
        }
    }
}

/// Powers of ten, and twos and fives between them when there are few.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let range = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let few = range.clone().count() <= 4;
    let of = |k: i32| {
        let ten = 10_f64.powi(k);
        if few { vec![ten, 2.0 * ten, 5.0 * ten] } else { vec![ten] }
    };
    range.flat_map(of).filter(|v| *v >= low * 0.999 && *v <= high * 1.001).collect()
}

/// Lines of whole words that are no wider than `width`, if a word is not.
fn wrap(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width_of(&format!("{line} {word}"), 12.0) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

#[cfg(test)]
#[path = "svg_tests.rs"]
mod tests;
