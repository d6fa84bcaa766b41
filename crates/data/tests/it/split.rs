use firstsight_data::train_test_split;
use serde::Deserialize;

use crate::support::golden;

#[derive(Deserialize)]
struct Split {
    n: usize,
    test_size: f64,
    random_state: u32,
    train: Side,
    test: Side,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Side {
    Whole(Vec<usize>),
    Sum { len: usize, crc32: u32 },
}

impl Side {
    fn check(&self, found: &[usize]) {
        match self {
            Self::Whole(expected) => assert_eq!(expected, found),
            Self::Sum { len, crc32 } => {
                assert_eq!(*len, found.len());
                let bytes: Vec<u8> = found.iter().flat_map(|&i| (i as u32).to_le_bytes()).collect();
                assert_eq!(*crc32, crc32fast::hash(&bytes));
            }
        }
    }
}

#[test]
fn splits_are_scikit_learns_index_for_index() {
    let splits: Vec<Split> = serde_json::from_slice(&std::fs::read(golden("split.json")).unwrap()).unwrap();
    assert!(splits.iter().any(|split| split.n == 32_176));
    for split in splits {
        let (train, test) = train_test_split(split.n, split.test_size, split.random_state).unwrap();
        split.train.check(&train);
        split.test.check(&test);
    }
}

#[test]
fn the_lectures_split_has_25_740_and_6_436() {
    let (train, test) = train_test_split(32_176, 0.2, 123).unwrap();
    assert_eq!((train.len(), test.len()), (25_740, 6_436));
}

#[test]
fn a_split_with_an_empty_side_is_refused() {
    for (n, test_size) in [(10, 0.0), (10, 1.0), (10, -0.1), (10, f64::NAN), (1, 0.5), (0, 0.5), (10, 0.95)] {
        let error = train_test_split(n, test_size, 0).unwrap_err();
        assert!(error.to_string().starts_with("test_size: expected a share"), "{error}");
    }
}
