//! A writer's hand: from the strokes of a character to the pen's path on the paper.

use std::ops::Add;

use crate::Split;
use crate::pen::{Dot, Ink, pressure};
use crate::random::{Random, Wander};
use crate::strokes::Stroke;

/// A writer: slant, proportions, pen and habits, all drawn from a seed.
///
/// Every sample of a character starts from the writer's own form of that character (the position,
/// length and bend of its strokes) and deviates from it a little. Writers of the two splits are drawn from the same
/// distribution and share nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Writer {
    seed: u64,
    split: Split,
    number: u32,
    /// Height of a character's square, in pixels.
    size: f32,
    /// Width of the square over its height.
    aspect: f32,
    /// Slant of verticals: pixels to the left for a pixel down.
    slant: f32,
    /// Rise of horizontals: pixels up for a pixel to the right.
    rise: f32,
    /// Standard deviation of the writer's forms from the neutral ones, relative to the square.
    form: f32,
    /// Standard deviation of a sample from the writer's form, relative to the square.
    stray: f32,
    /// Standard deviation of a line's tremor, relative to the square.
    wobble: f32,
    /// Probability that the pen stays on the paper between two strokes.
    run_on: f32,
    /// Roundness of corners: the number of times that a line is smoothed.
    haste: u32,
    /// Length of hooks relative to the neutral ones.
    hook: f32,
    /// Influence of a stroke's pressure on the line's width: 0 for a fiber pen, 1 for a brush.
    brush: f32,
    /// The line's width relative to the square's height.
    nib: f32,
    /// Variation of size, proportions, slant, pressure and hooks between samples; 0 for none.
    unsteady: f32,
    pub(crate) ink: Ink,
}

/// The purpose of a random stream; with the split, the second word of its key.
#[derive(Clone, Copy)]
enum Stream {
    Person,
    Form,
    Sample,
}

fn random(seed: u64, stream: Stream, split: Split, who: u64, sample: u64) -> Random {
    Random::new([seed, (stream as u64) << 8 | split as u64, who, sample])
}

impl Writer {
    /// Writer `number` of a split: a pure function of its arguments.
    pub fn new(seed: u64, split: Split, number: u32) -> Self {
        let mut c = random(seed, Stream::Person, split, number.into(), 0);
        let careless = c.between(0.0, 1.0);
        Writer {
            seed,
            split,
            number,
            size: c.between(44.0, 92.0),
            aspect: 0.82 + c.bell(0.11),
            slant: 0.04 + c.bell(0.13),
            rise: 0.06 + c.bell(0.06),
            form: 0.015 + 0.027 * careless,
            stray: 0.009 + 0.014 * careless,
            wobble: 0.002 + 0.006 * careless,
            run_on: if c.happens(0.35) { c.between(0.1, 0.7) } else { c.between(0.0, 0.06) },
            haste: c.between(0.0, 1.0 + 8.0 * careless) as u32,
            hook: c.between(0.0, 1.8),
            brush: c.between(0.1, 0.9),
            // Most pens are fine; one in eight is thick.
            nib: if c.happens(0.125) { c.between(0.07, 0.11) } else { c.between(0.03, 0.07) },
            unsteady: 1.0,
            ink: Ink { depth: c.between(0.6, 1.0), grain: c.between(0.03, 0.2), edge: c.between(1.0, 1.8) },
        }
    }

    /// A writer without habits or variation, who writes the neutral forms in squares of `size` pixels with a fine
    /// brush.
    pub fn neutral(size: f32) -> Self {
        Writer {
            seed: 0,
            split: Split::Train,
            number: 0,
            size,
            aspect: 1.0,
            slant: 0.0,
            rise: 0.0,
            form: 0.0,
            stray: 0.0,
            wobble: 0.0,
            run_on: 0.0,
            haste: 0,
            hook: 1.0,
            brush: 1.0,
            nib: 0.075,
            unsteady: 0.0,
            ink: Ink { depth: 1.0, grain: 0.0, edge: 1.0 },
        }
    }

    /// The pen's lines for one sample of a character, in pixels from any origin, and the random stream for the ink.
    pub(crate) fn write(&self, character: char, strokes: &[Stroke], sample: u64) -> (Vec<Vec<Dot>>, Random) {
        let who = u64::from(self.number) << 32 | u64::from(u32::from(character));
        let mut form = random(self.seed, Stream::Form, self.split, who, 0);
        let mut now = random(self.seed, Stream::Sample, self.split, who, sample);

        let components: Vec<Component> = (0..=strokes.iter().map(|s| s.component).max().unwrap_or(0))
            .map(|number| {
                let (center, extent) = middle(strokes.iter().filter(|s| s.component == number));
                let bend = Bend::draw(&mut form, self.form) + Bend::draw(&mut now, self.stray);
                Component { center, extent, bend }
            })
            .collect();
        let warp = Warp::draw(&mut form, 2.0 * self.form) + Warp::draw(&mut now, 2.0 * self.stray);

        let mut lines: Vec<Vec<Touch>> = Vec::with_capacity(strokes.len());
        for stroke in strokes {
            let component = &components[stroke.component];
            let bend = Bend::draw(&mut form, self.form) + Bend::draw(&mut now, self.stray);
            let mut way = stroke.line.clone();
            stretch_hook(&mut way[stroke.hook..], self.hook * (1.0 + now.bell(0.2 * self.unsteady)));
            bend.apply(&mut way, middle([stroke]).0, component.extent);
            component.bend.apply(&mut way, component.center, component.extent);

            let presses = (0..way.len()).map(|i| {
                let asked = pressure(stroke.kind, i as f32 / (way.len() - 1) as f32);
                1.0 + self.brush * (asked - 1.0)
            });
            let touches = presses.zip(&way).map(|(press, &at)| Touch { at: warp.apply(at), press });
            let link = lines.last().and_then(|line| self.link(line.last()?.at, warp.apply(way[0]), &mut now));
            match lines.last_mut().zip(link) {
                Some((line, link)) => line.extend(link.into_iter().chain(touches)),
                None => lines.push(touches.collect()),
            }
        }

        let frame = Frame {
            height: self.size * (1.0 + now.bell(0.06 * self.unsteady)),
            aspect: self.aspect * (1.0 + now.bell(0.06 * self.unsteady)),
            slant: self.slant + now.bell(0.03 * self.unsteady),
            rise: self.rise + now.bell(0.02 * self.unsteady),
        };
        let lines = lines.into_iter().map(|line| self.draw(line, &frame, &mut now)).collect();
        (lines, now)
    }

    /// The line from the end of a stroke to the start of the next, drawn lightly, if this writer's pen stays on the
    /// paper this time; never over half the square or more.
    fn link(&self, from: [f32; 2], to: [f32; 2], now: &mut Random) -> Option<Vec<Touch>> {
        let way = [to[0] - from[0], to[1] - from[1]];
        let length = (way[0] * way[0] + way[1] * way[1]).sqrt();
        if length >= 0.5 || !now.happens(self.run_on) {
            return None;
        }
        let press = now.between(0.3, 0.8);
        let steps = (30.0 * length).ceil();
        let touch = |step| {
            let t = step as f32 / steps;
            Touch { at: [from[0] + t * way[0], from[1] + t * way[1]], press }
        };
        Some((1..steps as usize).map(touch).collect())
    }

    /// Maps a line from the square to the paper, with the tremor of the hand.
    fn draw(&self, mut line: Vec<Touch>, frame: &Frame, now: &mut Random) -> Vec<Dot> {
        for _ in 0..self.haste {
            smooth(&mut line);
        }
        const STEPS_A_KNOT: f32 = 6.0;
        let knots = line.len() as f32 / STEPS_A_KNOT;
        let tremor = [Wander::new(now, knots, self.wobble), Wander::new(now, knots, self.wobble)];
        let press = Wander::new(now, knots, 0.1 * self.unsteady);
        line.iter()
            .enumerate()
            .map(|(step, touch)| {
                let knot = step as f32 / STEPS_A_KNOT;
                let [x, y] =
                    frame.apply([touch.at[0] + tremor[0].at(knot), touch.at[1] + tremor[1].at(knot)]);
                let radius = 0.5 * self.nib * frame.height * touch.press * (1.0 + press.at(knot));
                Dot { x, y, radius }
            })
            .collect()
    }
}

/// A point of a line in the square, and the line's width there relative to the nib's.
struct Touch {
    at: [f32; 2],
    press: f32,
}

/// The map from one sample's square to the paper.
struct Frame {
    height: f32,
    aspect: f32,
    slant: f32,
    rise: f32,
}

impl Frame {
    fn apply(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let width = self.height * self.aspect;
        [width * x - self.slant * self.height * y, self.height * y - self.rise * width * x]
    }
}

struct Component {
    center: [f32; 2],
    /// The longer side of its bounding box.
    extent: f32,
    bend: Bend,
}

/// The difference of a stroke or a component from the neutral one.
struct Bend {
    shift: [f32; 2],
    stretch: [f32; 2],
    /// Tangent of the angle of rotation.
    turn: f32,
    /// Displacement of its middle, relative to the distance of its ends.
    bow: f32,
}

impl Bend {
    fn draw(random: &mut Random, deviation: f32) -> Self {
        let mut bell = |times: f32| random.bell(times * deviation);
        Bend {
            shift: [bell(1.0), bell(1.0)],
            stretch: [bell(3.0), bell(3.0)],
            turn: bell(2.5),
            bow: bell(1.5),
        }
    }

    /// Bends a line about `center`, with shifts in units of `extent`.
    fn apply(&self, line: &mut [[f32; 2]], center: [f32; 2], extent: f32) {
        let last = line.len() - 1;
        let chord = [line[last][0] - line[0][0], line[last][1] - line[0][1]];
        for (i, point) in line.iter_mut().enumerate() {
            let s = i as f32 / last as f32;
            let push = self.bow * 4.0 * s * (1.0 - s);
            let [x, y] = [point[0] - center[0] - push * chord[1], point[1] - center[1] + push * chord[0]];
            *point = [
                center[0] + extent * self.shift[0] + (1.0 + self.stretch[0]) * (x - self.turn * y),
                center[1] + extent * self.shift[1] + (1.0 + self.stretch[1]) * (y + self.turn * x),
            ];
        }
    }
}

impl Add for Bend {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let both = |a: [f32; 2], b: [f32; 2]| [a[0] + b[0], a[1] + b[1]];
        Bend {
            shift: both(self.shift, other.shift),
            stretch: both(self.stretch, other.stretch),
            turn: self.turn + other.turn,
            bow: self.bow + other.bow,
        }
    }
}

/// A smooth change of the whole square: for each coordinate, the displacement of the center relative to the edge
/// across and down, and of opposite corners.
struct Warp([[f32; 3]; 2]);

impl Warp {
    fn draw(random: &mut Random, deviation: f32) -> Self {
        Warp([0, 1].map(|_| [0, 1, 2].map(|_| random.bell(deviation))))
    }

    fn apply(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (u, v) = (2.0 * x - 1.0, 2.0 * y - 1.0);
        let moved = |c: &[f32; 3]| c[0] * (1.0 - u * u) + c[1] * (1.0 - v * v) + c[2] * u * v;
        [x + moved(&self.0[0]), y + moved(&self.0[1])]
    }
}

impl Add for Warp {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let mut sum = self.0;
        for (a, b) in sum.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *a += b;
        }
        Warp(sum)
    }
}

/// The center and the longer side of the strokes' bounding box.
fn middle<'a>(strokes: impl IntoIterator<Item = &'a Stroke>) -> ([f32; 2], f32) {
    let (mut low, mut high) = ([1.0f32; 2], [0.0f32; 2]);
    for point in strokes.into_iter().flat_map(|s| &s.line) {
        for k in 0..2 {
            low[k] = low[k].min(point[k]);
            high[k] = high[k].max(point[k]);
        }
    }
    ([0.5 * (low[0] + high[0]), 0.5 * (low[1] + high[1])], (high[0] - low[0]).max(high[1] - low[1]))
}

/// Stretches the points after the first away from it.
fn stretch_hook(hook: &mut [[f32; 2]], times: f32) {
    let corner = hook[0];
    for point in hook {
        *point = [corner[0] + times * (point[0] - corner[0]), corner[1] + times * (point[1] - corner[1])];
    }
}

/// Moves each inner point halfway to the middle of its neighbors.
fn smooth(line: &mut [Touch]) {
    let Some(first) = line.first() else { return };
    let mut before = first.at;
    for i in 1..line.len().saturating_sub(1) {
        let (here, after) = (line[i].at, line[i + 1].at);
        line[i].at = [0, 1].map(|k| 0.5 * here[k] + 0.25 * (before[k] + after[k]));
        before = here;
    }
}
