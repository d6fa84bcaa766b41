//! The 55 characters as strokes: data, in the mainland-Chinese simplified forms and stroke order.
//!
//! A stroke is its kind and the points that the pen passes, in hundredths of the character's square, x to the
//! right and y down. A curve runs smoothly through the points, except where they turn by more than 55 degrees:
//! there it has a corner. A compound maps the squares of its components to boxes within its own.

use Kind::*;
use Part::*;

/// The kinds of stroke by their names in Chinese. The pen's pressure along a stroke follows its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 横: to the right.
    Heng,
    /// 竖: down.
    Shu,
    /// 竖钩: down, with a hook.
    ShuGou,
    /// 撇: falling to the left, thinning.
    Pie,
    /// 捺: falling to the right, swelling.
    Na,
    /// 点: a dot.
    Dian,
    /// 提: rising to the right.
    Ti,
    /// 折: with a corner (横折, 竖折, 撇折, 撇点).
    Zhe,
    /// 折钩: with corners and a hook (横钩, 横折钩, 竖折折钩, 横折弯钩).
    ZheGou,
    /// 横撇: to the right, then falling to the left, thinning.
    HengPie,
}

impl Kind {
    /// Whether the stroke's last two points are a hook.
    pub(crate) fn hooked(self) -> bool {
        matches!(self, ShuGou | ZheGou)
    }
}

/// A point in hundredths of the square.
pub(crate) type At = (u8, u8);

/// A part of a character, in stroke order.
pub(crate) enum Part {
    /// A stroke.
    S(Kind, &'static [At]),
    /// A component, whose square is mapped to the box with this top left and bottom right corner.
    In(At, At, &'static [Part]),
}

/// One stroke of a character, as the pen's path through the unit square.
pub(crate) struct Stroke {
    pub(crate) kind: Kind,
    /// Index of the stroke's component; 0 for strokes of the character itself.
    pub(crate) component: usize,
    /// The pen's path in small steps.
    pub(crate) line: Vec<[f32; 2]>,
    /// Index in `line` where the hook begins; the last index if there is none.
    pub(crate) hook: usize,
}

/// The strokes of a character in their order, or `None` for one that is not in the table.
pub(crate) fn strokes(character: char) -> Option<Vec<Stroke>> {
    let mut flat = Flat::default();
    flat.add(parts(character).or_else(|| crate::digits::parts(character))?, 0, [0.0, 0.0], [1.0, 1.0]);
    Some(flat.strokes)
}

#[derive(Default)]
struct Flat {
    strokes: Vec<Stroke>,
    components: usize,
}

impl Flat {
    /// Adds `parts`, with their square mapped to the box at `origin` of (width, height) `size`.
    fn add(&mut self, parts: &[Part], component: usize, origin: [f32; 2], size: [f32; 2]) {
        let place = |(x, y): At| {
            [origin[0] + size[0] * f32::from(x) / 100.0, origin[1] + size[1] * f32::from(y) / 100.0]
        };
        for part in parts {
            match part {
                S(kind, points) => {
                    let points: Vec<_> = points.iter().map(|&at| place(at)).collect();
                    let (line, last_leg) = curve(&points);
                    let hook = if kind.hooked() { last_leg } else { line.len() - 1 };
                    self.strokes.push(Stroke { kind: *kind, component, line, hook });
                }
                In(from, to, parts) => {
                    self.components += 1;
                    let (from, to) = (place(*from), place(*to));
                    self.add(parts, self.components, from, [to[0] - from[0], to[1] - from[1]]);
                }
            }
        }
    }
}

/// The cosine of the turn from which a point is a corner: 55 degrees.
const CORNER: f32 = 0.573_576_45;

/// A line in steps of about a thirtieth of the square through `points` (at least two), and the index in it of the
/// second to last point. Catmull-Rom between corners, whose tangents vanish.
fn curve(points: &[[f32; 2]]) -> (Vec<[f32; 2]>, usize) {
    let last = points.len() - 1;
    let between = |a: [f32; 2], b: [f32; 2]| [b[0] - a[0], b[1] - a[1]];
    let length = |v: [f32; 2]| (v[0] * v[0] + v[1] * v[1]).sqrt();
    let smooth = |i: usize| {
        if i == 0 || i == last {
            return false;
        }
        let (u, v) = (between(points[i - 1], points[i]), between(points[i], points[i + 1]));
        u[0] * v[0] + u[1] * v[1] > CORNER * length(u) * length(v)
    };
    let mut line = vec![points[0]];
    let mut last_leg = 0;
    for i in 0..last {
        last_leg = line.len() - 1;
        let (p, q) = (points[i], points[i + 1]);
        let leg = between(p, q);
        // A smooth point's tangent is along its neighbors' chord, as long as the leg; at a corner or an end the
        // leg starts or ends straight towards the other tangent.
        let tangent = |at: usize| {
            let chord = between(points[at - 1], points[at + 1]);
            let scale = length(leg) / length(chord);
            [chord[0] * scale, chord[1] * scale]
        };
        let (from, to) = match (smooth(i), smooth(i + 1)) {
            (false, false) => (leg, leg),
            (true, true) => (tangent(i), tangent(i + 1)),
            (true, false) => {
                let t = tangent(i);
                (t, [1.5 * leg[0] - 0.5 * t[0], 1.5 * leg[1] - 0.5 * t[1]])
            }
            (false, true) => {
                let t = tangent(i + 1);
                ([1.5 * leg[0] - 0.5 * t[0], 1.5 * leg[1] - 0.5 * t[1]], t)
            }
        };
        let steps = (length(leg) * 30.0).ceil().max(2.0);
        for step in 1..=(steps as usize) {
            let t = step as f32 / steps;
            let hermite = |k: usize| {
                let (t2, t3) = (t * t, t * t * t);
                (2.0 * t3 - 3.0 * t2 + 1.0) * p[k]
                    + (t3 - 2.0 * t2 + t) * from[k]
                    + (3.0 * t2 - 2.0 * t3) * q[k]
                    + (t3 - t2) * to[k]
            };
            line.push([hermite(0), hermite(1)]);
        }
    }
    (line, last_leg)
}

fn parts(character: char) -> Option<&'static [Part]> {
    Some(match character {
        '人' => REN,
        '从' => &[In((2, 6), (50, 96), REN_LEFT), In((40, 2), (100, 98), REN)],
        '众' => &[In((8, 0), (92, 44), REN), In((2, 40), (50, 98), REN_LEFT), In((44, 40), (100, 98), REN)],
        '大' => DA,
        '夫' => FU,
        '天' => &[
            S(Heng, &[(20, 15), (80, 13)]),
            S(Heng, &[(8, 44), (92, 41)]),
            S(Pie, &[(50, 14), (48, 44), (36, 70), (8, 94)]),
            S(Na, &[(51, 44), (65, 72), (94, 92)]),
        ],
        '口' => KOU,
        '太' => &[In((0, 0), (100, 100), DA), S(Dian, &[(40, 74), (53, 90)])],
        '因' => &[
            S(Shu, &[(13, 8), (14, 96)]),
            S(Zhe, &[(13, 10), (87, 9), (87, 96)]),
            In((22, 16), (78, 84), DA_INSIDE),
            S(Heng, &[(14, 89), (87, 88)]),
        ],
        '鱼' => &[
            S(Pie, &[(38, 3), (31, 18), (12, 36)]),
            S(HengPie, &[(32, 17), (66, 16), (54, 34)]),
            S(Shu, &[(19, 37), (23, 76)]),
            S(Zhe, &[(19, 37), (80, 35), (76, 74)]),
            S(Heng, &[(22, 55), (77, 54)]),
            S(Shu, &[(49, 37), (49, 71)]),
            S(Heng, &[(23, 73), (76, 72)]),
            S(Heng, &[(5, 92), (95, 90)]),
        ],
        '犬' => QUAN,
        '吠' => &[In((0, 24), (36, 68), KOU), In((32, 4), (100, 98), QUAN)],
        '哭' => &[In((8, 2), (48, 40), KOU), In((52, 2), (92, 40), KOU), In((2, 38), (98, 100), QUAN)],
        '火' => HUO,
        '炎' => &[In((14, 0), (86, 50), HUO_ABOVE), In((4, 44), (96, 100), HUO)],
        '啖' => {
            &[In((0, 26), (34, 70), KOU), In((36, 0), (94, 50), HUO_ABOVE), In((30, 44), (100, 100), HUO)]
        }
        '木' => MU,
        '林' => &[In((0, 4), (50, 98), MU_LEFT), In((42, 2), (100, 98), MU)],
        '森' => &[In((16, 0), (84, 50), MU), In((0, 44), (52, 100), MU_LEFT), In((46, 44), (100, 100), MU)],
        '本' => &[In((0, 0), (100, 100), MU), S(Heng, &[(32, 74), (69, 73)])],
        '竹' => &[
            S(Pie, &[(24, 6), (19, 25), (5, 46)]),
            S(Heng, &[(18, 29), (47, 26)]),
            S(Shu, &[(29, 28), (29, 94)]),
            S(Pie, &[(64, 5), (60, 22), (49, 40)]),
            S(Heng, &[(59, 27), (95, 24)]),
            S(ShuGou, &[(77, 26), (77, 92), (65, 84)]),
        ],
        '羊' => &[
            S(Dian, &[(30, 5), (39, 19)]),
            S(Pie, &[(71, 3), (66, 13), (58, 22)]),
            S(Heng, &[(16, 27), (84, 25)]),
            S(Heng, &[(22, 47), (78, 45)]),
            S(Heng, &[(6, 69), (94, 66)]),
            S(Shu, &[(50, 26), (50, 98)]),
        ],
        '美' => &[
            In((0, 0), (100, 100), YANG_ABOVE),
            S(Heng, &[(14, 66), (86, 64)]),
            S(Pie, &[(49, 50), (45, 70), (33, 86), (8, 98)]),
            S(Na, &[(51, 66), (64, 84), (94, 97)]),
        ],
        '羔' => &[
            In((0, 0), (100, 110), YANG_ABOVE),
            S(Dian, &[(19, 70), (8, 92)]),
            S(Dian, &[(36, 72), (41, 89)]),
            S(Dian, &[(58, 71), (64, 87)]),
            S(Dian, &[(78, 68), (94, 88)]),
        ],
        '山' => &[
            S(Shu, &[(50, 8), (50, 83)]),
            S(Zhe, &[(14, 38), (15, 86), (86, 84)]),
            S(Shu, &[(86, 35), (86, 92)]),
        ],
        '出' => &[
            S(Zhe, &[(21, 14), (21, 45), (79, 43)]),
            S(Shu, &[(79, 12), (79, 48)]),
            S(Shu, &[(50, 3), (50, 90)]),
            S(Zhe, &[(12, 58), (12, 92), (88, 90)]),
            S(Shu, &[(88, 55), (88, 97)]),
        ],
        '女' => NV,
        '囡' => &[
            S(Shu, &[(13, 7), (14, 97)]),
            S(Zhe, &[(13, 9), (87, 8), (87, 97)]),
            In((20, 15), (81, 85), NV),
            S(Heng, &[(14, 90), (87, 89)]),
        ],
        '鸟' => &[
            S(Pie, &[(48, 2), (45, 9), (37, 18)]),
            S(ZheGou, &[(25, 19), (70, 17), (67, 45), (57, 40)]),
            S(Dian, &[(43, 27), (52, 38)]),
            S(ZheGou, &[(25, 19), (24, 58), (84, 55), (78, 94), (64, 87)]),
            S(Heng, &[(7, 76), (67, 73)]),
        ],
        '日' => RI,
        '东' => &[
            S(Heng, &[(16, 20), (84, 18)]),
            S(Zhe, &[(45, 4), (36, 26), (22, 49), (84, 46)]),
            S(ShuGou, &[(53, 31), (53, 93), (41, 85)]),
            S(Pie, &[(34, 60), (27, 72), (12, 86)]),
            S(Dian, &[(69, 60), (89, 80)]),
        ],
        '月' => YUE,
        '朋' => &[In((0, 2), (54, 98), YUE), In((46, 2), (100, 98), YUE)],
        '明' => &[In((0, 14), (46, 80), RI), In((40, 2), (100, 100), YUE)],
        '肉' => &[
            S(Shu, &[(15, 26), (15, 97)]),
            S(ZheGou, &[(15, 28), (85, 26), (85, 94), (73, 89)]),
            S(Pie, &[(50, 4), (46, 32), (27, 52)]),
            S(Dian, &[(51, 34), (70, 50)]),
            S(Pie, &[(50, 50), (43, 70), (26, 86)]),
            S(Dian, &[(50, 66), (71, 83)]),
        ],
        '肤' => &[In((0, 4), (46, 98), YUE), In((38, 4), (100, 98), FU)],
        '工' => {
            &[S(Heng, &[(18, 18), (82, 16)]), S(Shu, &[(50, 17), (50, 83)]), S(Heng, &[(7, 84), (93, 82)])]
        }
        '白' => &[
            S(Pie, &[(53, 3), (47, 14), (36, 26)]),
            S(Shu, &[(20, 27), (20, 97)]),
            S(Zhe, &[(20, 28), (80, 27), (80, 97)]),
            S(Heng, &[(20, 59), (80, 58)]),
            S(Heng, &[(20, 92), (80, 91)]),
        ],
        '虎' => &[
            S(Shu, &[(51, 2), (51, 24)]),
            S(Heng, &[(51, 13), (79, 11)]),
            S(ZheGou, &[(19, 26), (86, 23), (78, 37)]),
            S(Pie, &[(19, 26), (18, 58), (4, 97)]),
            S(Heng, &[(31, 44), (70, 38)]),
            S(ZheGou, &[(47, 27), (47, 48), (52, 54), (75, 53), (77, 45)]),
            S(Pie, &[(40, 64), (38, 82), (20, 98)]),
            S(ZheGou, &[(40, 65), (66, 64), (66, 86), (73, 93), (93, 91), (94, 80)]),
        ],
        '门' => MEN,
        '闪' => &[In((0, 0), (100, 100), MEN), In((24, 26), (76, 90), REN)],
        '问' => &[In((0, 0), (100, 100), MEN), In((26, 34), (74, 78), KOU)],
        '闲' => &[In((0, 0), (100, 100), MEN), In((22, 22), (78, 94), MU)],
        '水' => &[
            S(ShuGou, &[(50, 3), (50, 95), (37, 86)]),
            S(HengPie, &[(9, 34), (38, 32), (29, 60), (5, 84)]),
            S(Pie, &[(84, 18), (73, 33), (54, 47)]),
            S(Na, &[(52, 42), (67, 68), (96, 88)]),
        ],
        '牛' => &[
            S(Pie, &[(30, 8), (25, 25), (11, 43)]),
            S(Heng, &[(25, 32), (84, 29)]),
            S(Heng, &[(6, 60), (94, 57)]),
            S(Shu, &[(53, 3), (53, 98)]),
        ],
        '马' => MA,
        '吗' => &[In((0, 22), (36, 66), KOU), In((32, 4), (100, 98), MA)],
        '妈' => &[In((0, 2), (46, 98), NV_LEFT), In((38, 4), (100, 98), MA)],
        '玉' => YU,
        '王' => &[
            S(Heng, &[(14, 13), (86, 11)]),
            S(Heng, &[(20, 49), (80, 47)]),
            S(Shu, &[(50, 12), (50, 87)]),
            S(Heng, &[(6, 89), (94, 87)]),
        ],
        '国' => &[
            S(Shu, &[(13, 8), (14, 97)]),
            S(Zhe, &[(13, 9), (87, 8), (87, 97)]),
            In((22, 18), (78, 82), YU),
            S(Heng, &[(14, 91), (87, 90)]),
        ],
        '主' => &[
            S(Dian, &[(43, 2), (57, 16)]),
            S(Heng, &[(17, 29), (83, 27)]),
            S(Heng, &[(23, 58), (77, 56)]),
            S(Shu, &[(50, 28), (50, 89)]),
            S(Heng, &[(7, 91), (93, 89)]),
        ],
        '川' => &[
            S(Pie, &[(19, 12), (19, 54), (5, 92)]),
            S(Shu, &[(50, 18), (50, 84)]),
            S(Shu, &[(84, 8), (84, 97)]),
        ],
        '舟' => &[
            S(Pie, &[(51, 2), (47, 10), (38, 20)]),
            S(Pie, &[(27, 21), (27, 58), (8, 97)]),
            S(ZheGou, &[(27, 22), (75, 20), (75, 94), (61, 87)]),
            S(Dian, &[(44, 31), (54, 44)]),
            S(Heng, &[(4, 58), (96, 55)]),
            S(Dian, &[(44, 66), (54, 80)]),
        ],
        '虫' => &[
            S(Shu, &[(19, 24), (23, 59)]),
            S(Zhe, &[(19, 25), (81, 23), (77, 57)]),
            S(Heng, &[(23, 57), (77, 55)]),
            S(Shu, &[(50, 4), (50, 88)]),
            S(Heng, &[(10, 91), (82, 84)]),
            S(Dian, &[(72, 70), (91, 94)]),
        ],
        _ => return None,
    })
}

const REN: &[Part] =
    &[S(Pie, &[(50, 5), (48, 34), (36, 64), (7, 93)]), S(Na, &[(49, 34), (62, 64), (94, 92)])];

/// 人 on the left: its last stroke becomes a dot.
const REN_LEFT: &[Part] = &[S(Pie, &[(58, 5), (54, 36), (38, 66), (4, 94)]), S(Dian, &[(54, 44), (84, 72)])];

const DA: &[Part] = &[
    S(Heng, &[(9, 37), (91, 34)]),
    S(Pie, &[(50, 5), (48, 37), (37, 66), (7, 95)]),
    S(Na, &[(50, 37), (64, 67), (95, 93)]),
];

/// 大 within a frame: its last stroke becomes a dot.
const DA_INSIDE: &[Part] = &[
    S(Heng, &[(9, 35), (91, 32)]),
    S(Pie, &[(50, 2), (48, 36), (36, 66), (6, 96)]),
    S(Dian, &[(54, 56), (86, 88)]),
];

const FU: &[Part] = &[
    S(Heng, &[(20, 27), (80, 25)]),
    S(Heng, &[(7, 50), (93, 47)]),
    S(Pie, &[(50, 4), (49, 46), (37, 74), (7, 96)]),
    S(Na, &[(51, 49), (65, 75), (95, 94)]),
];

const KOU: &[Part] =
    &[S(Shu, &[(16, 22), (22, 88)]), S(Zhe, &[(16, 23), (84, 21), (78, 86)]), S(Heng, &[(22, 83), (79, 81)])];

const QUAN: &[Part] = &[
    S(Heng, &[(9, 38), (91, 35)]),
    S(Pie, &[(48, 5), (46, 38), (35, 67), (6, 95)]),
    S(Na, &[(49, 38), (64, 68), (95, 93)]),
    S(Dian, &[(67, 10), (81, 24)]),
];

const HUO: &[Part] = &[
    S(Dian, &[(21, 32), (29, 54)]),
    S(Pie, &[(83, 27), (77, 42), (64, 56)]),
    S(Pie, &[(51, 4), (50, 44), (37, 72), (8, 96)]),
    S(Na, &[(51, 50), (66, 76), (95, 94)]),
];

/// 火 on top of another: its last stroke becomes a dot.
const HUO_ABOVE: &[Part] = &[
    S(Dian, &[(20, 30), (29, 52)]),
    S(Pie, &[(84, 24), (77, 40), (64, 54)]),
    S(Pie, &[(51, 2), (50, 44), (37, 72), (8, 96)]),
    S(Dian, &[(54, 58), (84, 88)]),
];

const MU: &[Part] = &[
    S(Heng, &[(10, 32), (90, 30)]),
    S(Shu, &[(50, 4), (50, 97)]),
    S(Pie, &[(49, 32), (36, 58), (6, 81)]),
    S(Na, &[(51, 32), (66, 60), (95, 80)]),
];

/// 木 on the left: its last stroke becomes a dot.
const MU_LEFT: &[Part] = &[
    S(Heng, &[(6, 33), (92, 29)]),
    S(Shu, &[(54, 4), (54, 97)]),
    S(Pie, &[(53, 33), (36, 56), (4, 76)]),
    S(Dian, &[(58, 42), (88, 58)]),
];

/// 羊 on top of another component: its last stroke ends at the third horizontal.
const YANG_ABOVE: &[Part] = &[
    S(Dian, &[(31, 2), (40, 13)]),
    S(Pie, &[(69, 1), (65, 8), (58, 16)]),
    S(Heng, &[(16, 19), (84, 17)]),
    S(Heng, &[(22, 33), (78, 31)]),
    S(Shu, &[(50, 18), (50, 48)]),
    S(Heng, &[(9, 49), (91, 47)]),
];

const NV: &[Part] = &[
    S(Zhe, &[(42, 5), (35, 32), (22, 60), (50, 73), (80, 95)]),
    S(Pie, &[(71, 34), (60, 66), (14, 95)]),
    S(Heng, &[(6, 38), (95, 35)]),
];

/// 女 on the left: its last stroke rises.
const NV_LEFT: &[Part] = &[
    S(Zhe, &[(42, 8), (34, 36), (16, 60), (46, 72), (74, 86)]),
    S(Pie, &[(74, 36), (62, 64), (8, 94)]),
    S(Ti, &[(4, 43), (90, 34)]),
];

const RI: &[Part] = &[
    S(Shu, &[(23, 8), (23, 96)]),
    S(Zhe, &[(23, 9), (78, 8), (78, 96)]),
    S(Heng, &[(23, 50), (78, 49)]),
    S(Heng, &[(23, 91), (78, 90)]),
];

const YUE: &[Part] = &[
    S(Pie, &[(27, 6), (27, 56), (22, 80), (8, 97)]),
    S(ZheGou, &[(27, 8), (78, 7), (78, 95), (62, 89)]),
    S(Heng, &[(28, 34), (78, 33)]),
    S(Heng, &[(27, 60), (78, 59)]),
];

const MEN: &[Part] = &[
    S(Dian, &[(18, 3), (29, 15)]),
    S(Shu, &[(13, 20), (13, 98)]),
    S(ZheGou, &[(37, 12), (87, 11), (87, 95), (74, 89)]),
];

const MA: &[Part] = &[
    S(Zhe, &[(20, 11), (72, 9), (66, 50)]),
    S(ZheGou, &[(30, 25), (25, 52), (85, 50), (78, 93), (64, 87)]),
    S(Heng, &[(6, 73), (66, 70)]),
];

const YU: &[Part] = &[
    S(Heng, &[(16, 14), (84, 12)]),
    S(Heng, &[(22, 48), (78, 46)]),
    S(Shu, &[(50, 13), (50, 86)]),
    S(Heng, &[(7, 89), (93, 87)]),
    S(Dian, &[(61, 59), (75, 75)]),
];
