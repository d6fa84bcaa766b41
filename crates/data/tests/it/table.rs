use std::path::Path;

use firstsight_data::{Error, Table};
use serde::Deserialize;

use crate::support::golden;

#[derive(Deserialize)]
struct Scaler {
    mean: Vec<f64>,
    scale: Vec<f64>,
    rows: Vec<Vec<f64>>,
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found} {expected}");
    }
}

#[test]
fn standardizing_is_scikit_learns() {
    let table = Table::read_csv(&golden("table.csv")).unwrap();
    let expected: Scaler = serde_json::from_slice(&std::fs::read(golden("table.json")).unwrap()).unwrap();
    let scaler = table.standardizer();
    assert_close(&scaler.mean, &expected.mean);
    assert_close(&scaler.scale, &expected.scale);
    let found = scaler.transform(&table).unwrap();
    assert_eq!(found.n_rows(), expected.rows.len());
    for (found, expected) in found.rows().zip(&expected.rows) {
        assert_close(found, expected);
    }
}

fn read(text: &[u8]) -> Result<Table, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.csv");
    std::fs::write(&path, text).unwrap();
    Table::read_csv(&path)
}

#[test]
fn a_byte_order_mark_quotes_spaces_and_windows_lines_are_read() {
    let table = read("\u{feff}a,\"b, c\"\r\n 1 ,\"-2e3\"\r\n3,4".as_bytes()).unwrap();
    assert_eq!(table.columns(), ["a", "b, c"]);
    assert_eq!(table.rows().collect::<Vec<_>>(), [[1.0, -2000.0], [3.0, 4.0]]);
    assert_eq!(table.select(&["b, c"]).unwrap().rows().collect::<Vec<_>>(), [[-2000.0], [4.0]]);
    assert_eq!(table.subset(&[1, 1]).column("a").unwrap(), [3.0, 3.0]);
    assert_eq!(table.column("c"), None);
    assert!(matches!(table.select(&["c"]), Err(Error::Invalid { .. })));
}

#[test]
fn what_is_no_number_is_named_by_line_and_column() {
    for (text, line, column, found) in [
        ("a,b\n1,2\n3,four\n", 3, "b", "four"),
        ("a,b\n1,\n", 2, "b", ""),
        ("a,b\nnan,1\n", 2, "a", "nan"),
        ("a,b\n1,inf\n", 2, "b", "inf"),
        ("a,b\n1,2\n\n3\n", 4, "b", "1"),
        ("a,b\n1,2,3\n", 2, "3", "3"),
        ("a,a\n1,2\n", 1, "2", "a"),
        ("a,b\n", 2, "1", ""),
        ("", 1, "1", ""),
    ] {
        match read(text.as_bytes()) {
            Err(Error::Csv { line: l, column: c, found: f, path, .. }) => {
                assert_eq!((l, c.as_str(), f.as_str()), (line, column, found), "{text:?}");
                assert_eq!(path.file_name().unwrap(), "table.csv");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
    assert!(matches!(read(b"a,b\n1,\xff\n"), Err(Error::Csv { line: 2, .. })));
    assert!(matches!(Table::read_csv(Path::new("/nowhere/x.csv")), Err(Error::Io { .. })));
}
