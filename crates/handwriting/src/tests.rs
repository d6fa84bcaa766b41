use std::collections::HashSet;

use super::*;
use crate::strokes::{Kind, strokes};

/// The order of strokes that the mainland standard (GF 0023-2020) prescribes, in its five classes: 1 horizontal or
/// rising, 2 vertical, 3 falling to the left, 4 falling to the right or dot, 5 with a corner.
const ORDER: [(char, &str); 55] = [
    ('人', "34"),
    ('从', "3434"),
    ('众', "343434"),
    ('大', "134"),
    ('夫', "1134"),
    ('天', "1134"),
    ('口', "251"),
    ('太', "1344"),
    ('因', "251341"),
    ('鱼', "35251211"),
    ('犬', "1344"),
    ('吠', "2511344"),
    ('哭', "2512511344"),
    ('火', "4334"),
    ('炎', "43344334"),
    ('啖', "25143344334"),
    ('木', "1234"),
    ('林', "12341234"),
    ('森', "123412341234"),
    ('本', "12341"),
    ('竹', "312312"),
    ('羊', "431112"),
    ('美', "431121134"),
    ('羔', "4311214444"),
    ('山', "252"),
    ('出', "52252"),
    ('女', "531"),
    ('囡', "255311"),
    ('鸟', "35451"),
    ('日', "2511"),
    ('东', "15234"),
    ('月', "3511"),
    ('朋', "35113511"),
    ('明', "25113511"),
    ('肉', "253434"),
    ('肤', "35111134"),
    ('工', "121"),
    ('白', "32511"),
    ('虎', "21531535"),
    ('门', "425"),
    ('闪', "42534"),
    ('问', "425251"),
    ('闲', "4251234"),
    ('水', "2534"),
    ('牛', "3112"),
    ('马', "551"),
    ('吗', "251551"),
    ('妈', "531551"),
    ('玉', "11214"),
    ('王', "1121"),
    ('国', "25112141"),
    ('主', "41121"),
    ('川', "322"),
    ('舟', "335414"),
    ('虫', "251214"),
];

#[test]
fn strokes_follow_the_standard_order() {
    for ((character, order), expected) in ORDER.into_iter().zip(CHARACTERS) {
        assert_eq!(character, expected);
        let ours: String = strokes(character)
            .unwrap()
            .iter()
            .map(|stroke| match stroke.kind {
                Kind::Heng | Kind::Ti => '1',
                Kind::Shu | Kind::ShuGou => '2',
                Kind::Pie => '3',
                Kind::Na | Kind::Dian => '4',
                Kind::Zhe | Kind::ZheGou | Kind::HengPie => '5',
            })
            .collect();
        assert_eq!(ours, order, "{character}");
    }
    assert!(strokes('贰').is_none());
}

#[test]
fn strokes_go_the_way_of_their_kind_inside_the_square() {
    for character in CHARACTERS.into_iter().chain(DIGITS) {
        for (number, stroke) in strokes(character).unwrap().iter().enumerate() {
            let (line, what) = (&stroke.line, format!("{character}, stroke {}", number + 1));
            assert!(line.iter().flatten().all(|v| (0.0..=1.0).contains(v)), "{what}: {line:?}");
            let (from, to) = (line[0], line[line.len() - 1]);
            let (right, down) = (to[0] - from[0], to[1] - from[1]);
            let (wide, tall) = (right.abs(), down.abs());
            assert!(
                match stroke.kind {
                    Kind::Heng => right > 5.0 * tall,
                    Kind::Shu => down > 5.0 * wide,
                    Kind::Pie => right < 0.0 && down > 0.0,
                    Kind::Na => right > 0.0 && down > 0.0,
                    Kind::Ti => right > 0.0 && down < 0.0,
                    Kind::Dian => down > 0.0 && wide.max(tall) < 0.4,
                    Kind::ShuGou | Kind::ZheGou => stroke.hook < line.len() - 1,
                    Kind::Zhe | Kind::HengPie => stroke.hook == line.len() - 1,
                },
                "{what} is a {:?} that goes {right} to the right and {down} down",
                stroke.kind
            );
            let steps = line.windows(2).map(|p| (p[1][0] - p[0][0]).hypot(p[1][1] - p[0][1]));
            assert!(
                steps.clone().all(|step| step > 0.0 && step < 0.06),
                "{what}: {:?}",
                steps.collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn counts_are_the_lectures() {
    let sum = |split| counts(split).map(|(_, n)| n).sum::<usize>();
    assert_eq!((sum(Split::Train), sum(Split::Test)), (32_206, 7_684));
    let of = |split, character| counts(split).find(|(c, _)| *c == character).map(|(_, n)| n);
    assert_eq!((of(Split::Train, '虎'), of(Split::Test, '虎')), (Some(597), Some(143)));
    assert_eq!((of(Split::Train, '囡'), of(Split::Test, '囡')), (Some(240), Some(59)));
    assert_eq!(CHARACTERS.into_iter().collect::<HashSet<_>>().len(), 55);
}

#[test]
fn scaled_counts_are_rounded_and_at_least_two() {
    let of = |scale: f64, character| {
        Settings { seed: 0, scale }.counts(Split::Test).unwrap().find(|(c, _)| *c == character).unwrap().1
    };
    assert_eq!([of(1.0, '囡'), of(0.5, '囡'), of(0.1, '囡'), of(1e-9, '囡')], [59, 30, 6, 2]);
    for scale in [0.0, -0.1, 1.000_1, f64::NAN, f64::INFINITY] {
        assert!(
            matches!(Settings { seed: 0, scale }.counts(Split::Train), Err(Error::Scale { .. })),
            "{scale}"
        );
    }
}

#[test]
fn writers_differ_between_seeds_splits_and_numbers() {
    let mut hands = HashSet::new();
    for seed in [0, 1] {
        for split in Split::ALL {
            for number in 0..split.writers() as u32 {
                // Equal hands would leave equal ink; the seed, split and number themselves aren't compared.
                let image = render('永', &Writer::new(seed, split, number), 0);
                assert!(matches!(image, Err(Error::Character { found: '永' })));
                let image = render('人', &Writer::new(seed, split, number), 0).unwrap();
                assert!(hands.insert(image.pixels), "{seed} {split} {number}");
            }
        }
    }
    assert_eq!(hands.len(), 2 * (150 + 36));
}

#[test]
fn images_are_a_function_of_their_arguments() {
    let writer = Writer::new(7, Split::Train, 3);
    assert_eq!(render('鱼', &writer, 1).unwrap(), render('鱼', &writer.clone(), 1).unwrap());
    assert_ne!(render('鱼', &writer, 1).unwrap(), render('鱼', &writer, 2).unwrap());
}

#[test]
fn images_are_dark_ink_inside_a_white_rim() {
    for character in CHARACTERS.into_iter().chain(DIGITS) {
        for number in 0..20 {
            let Image { width, height, pixels } =
                render(character, &Writer::new(1, Split::Test, number), 0).unwrap();
            assert!(
                (12..200).contains(&width) && (12..200).contains(&height),
                "{character} {width}x{height}"
            );
            assert_eq!(pixels.len() as u32, width * height);
            let ink = pixels.iter().filter(|&&gray| gray < 200).count();
            assert!(ink > 30 && 2 * ink < pixels.len(), "{character}: {ink} of {} pixels", pixels.len());
            let rim = |i: usize| {
                let (x, y) = (i as u32 % width, i as u32 / width);
                x == 0 || y == 0 || x + 1 == width || y + 1 == height
            };
            assert!(pixels.iter().enumerate().all(|(i, &gray)| gray == 255 || !rim(i)));
        }
    }
}

#[test]
fn the_neutral_writer_slips_nowhere() {
    for character in CHARACTERS.into_iter().chain(DIGITS) {
        let of = |sample| render(character, &Writer::neutral(64.0), sample).unwrap().pixels;
        let ink = |pixels: Vec<u8>| pixels.into_iter().filter(|&gray| gray < 255).collect::<Vec<_>>().len();
        // The margins differ, and with them how the grid of pixels lies on the ink.
        let (a, b) = (ink(of(0)) as f64, ink(of(1)) as f64);
        assert!((a / b - 1.0).abs() < 0.1, "{character}: {a} and {b} pixels of ink");
    }
}

#[test]
fn outlines_stay_in_their_box() {
    for character in CHARACTERS.into_iter().chain(DIGITS) {
        let path = outline_svg(character).unwrap();
        let numbers: Vec<f64> = path
            .split(|c: char| "MLAZ ".contains(c))
            .filter(|s| !s.is_empty())
            .map(|s| s.parse().unwrap())
            .collect();
        assert!(numbers.iter().all(|n| (0.0..=1000.0).contains(n)), "{character}: {path}");
        assert!(path.matches('Z').count() >= strokes(character).unwrap().len());
    }
    assert!(outline_svg('永').is_none());
}
