//! Search spaces in TOML files.
#![cfg(feature = "toml")]

use std::ops::Bound::{Excluded, Included, Unbounded};

use firstsight_hpo::{Known, Random, SearchSpace, Study, Values};
use serde_json::Value;

fn known() -> Vec<Known> {
    let known = |name, values| Known { name, values, each: None, default: None, about: "" };
    let names = |names: &[&str]| Values::Names(names.iter().map(|name| (*name).to_owned()).collect());
    vec![
        known("rate", Values::Floats(Excluded(0.0), Unbounded)),
        known("decay", Values::Floats(Included(0.0), Excluded(1.0))),
        known("optimizer", names(&["adam", "sgd"])),
        known("momentum", Values::Floats(Included(0.0), Excluded(1.0))),
        known("layers", Values::Integers(0, 9)),
        Known { each: Some("layers"), ..known("width", Values::Integers(1, 4096)) },
        known("balanced", Values::Flags),
    ]
}

fn parse(text: &str) -> firstsight_hpo::Result<SearchSpace> {
    SearchSpace::parse(text, "space.toml", &known(), &[])
}

#[test]
fn conditional_parameters_are_there_when_their_conditions_hold() {
    // Before what it depends on, which is found all the same.
    let text = r#"
        width = { low = 8, high = 64, step = 8, each = "layers", when = { optimizer = "sgd", balanced = [true] } }
        momentum = { low = 0.5, high = 0.9, when = { optimizer = "sgd" } }
        optimizer = { choices = ["adam", "sgd"] }
        rate = { low = 1e-4, high = 1e-1, log = true }
        layers = { low = 0, high = 3 }
        decay = 0.01

        [balanced]
        choices = [true, false]
    "#;
    let space = parse(text).unwrap();
    let study = Study::builder("s").sampler(Random::new(3)).create().unwrap();
    let mut seen = [0; 3];
    study
        .optimize(60, |trial| {
            let settings = space.sample(trial)?;
            let sgd = settings.text("optimizer") == Some("sgd");
            let widths = settings.list("width");
            let (balanced, layers) = (settings.flag("balanced").unwrap(), settings.int("layers").unwrap());
            assert_eq!(settings.float("decay"), Some(0.01));
            assert_eq!(settings.float("momentum").is_some(), sgd);
            assert_eq!(widths.is_some(), sgd && balanced);
            if let Some(widths) = &widths {
                assert_eq!(widths.len() as i64, layers);
                assert!(widths.iter().all(|w| w % 8.0 == 0.0 && (8.0..=64.0).contains(w)), "{widths:?}");
                seen[2] += 1;
            }
            seen[usize::from(sgd)] += 1;
            let params = trial.record().params.len();
            assert_eq!(params as i64, 4 + i64::from(sgd) + widths.map_or(0, |_| layers));
            Ok(settings.float("rate").unwrap())
        })
        .unwrap();
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
    let best = study.best_trial().unwrap();
    assert_eq!(space.replay(&best).unwrap().float("rate"), best.value());
    let largest = ["rate", "decay", "layers", "width", "balanced", "none"].map(|name| space.largest(name));
    assert_eq!(largest, [Some(0.1), Some(0.01), Some(3.0), Some(64.0), None, None]);
    // What is stored with a study is read back.
    let stored: SearchSpace = serde_json::from_str(&serde_json::to_string(&space).unwrap()).unwrap();
    assert_eq!(stored, space);
}

#[test]
fn what_is_given_besides_is_part_of_the_space() {
    let given = [("model", vec!["a".to_owned(), "b".to_owned()])];
    let text = "rate = { low = 1e-3, high = 1, when = { model = 'b' } }";
    let space = SearchSpace::parse(text, "space.toml", &known(), &given).unwrap();
    assert_eq!(space.choices("model"), Some(vec![Value::from("a"), Value::from("b")]));
    // One choice is no search.
    let one = [("model", vec!["a".to_owned()])];
    let space = SearchSpace::parse("rate = { low = 1e-3, high = 1 }", "space.toml", &known(), &one).unwrap();
    let study = Study::builder("s").sampler(Random::new(3)).create().unwrap();
    let mut trial = study.ask().unwrap();
    assert_eq!(space.sample(&mut trial).unwrap().text("model"), Some("a"));
    assert_eq!(trial.record().params.len(), 1, "the rate alone");
    let said = SearchSpace::parse("model = 'a'", "space.toml", &known(), &given).unwrap_err().to_string();
    assert!(said.contains("line 1") && said.contains("given already"), "{said}");
}

#[test]
fn what_is_wrong_is_said_in_a_line_with_place_expected_and_found() {
    let wrong: [(&str, &[&str]); 34] = [
        ("rate = ", &["space.toml, line 1: expected TOML"]),
        ("decay = 0.1\nrate = 1e-3\nrate = 2", &["line 3", "duplicate"]),
        (
            "\nspeed = 1",
            &["line 2, `speed`", "one of rate, decay, optimizer", "a parameter that is not known"],
        ),
        ("rate = 'fast'", &["line 1, `rate`", "a number above 0, found \"fast\""]),
        ("rate = 0", &["a number above 0, found 0"]),
        ("rate = [1e-3, 1e-2]", &["a table such as { choices = […] }", "an array"]),
        ("rate = { low = 1e-3 }", &["`rate`: expected `low` and `high`, found no `high`"]),
        (
            "rate = { low = 0.0, high = 1.0, log = true }",
            &["`rate.low`: expected a number above 0, found 0.0"],
        ),
        ("decay = { low = 0, high = 0.5, log = true }", &["`low > 0` for a logarithmic range"]),
        ("rate = { low = 2, high = 1 }", &["`low <= high`, found low=2.0, high=1.0"]),
        ("rate = { low = 1, high = 2, step = 0 }", &["`step > 0`"]),
        ("rate = { low = 1, high = 2, step = 0.5, log = true }", &["no `step` with a logarithmic range"]),
        ("rate = { low = 1, high = inf }", &["`rate.high`: expected a finite number, found inf"]),
        ("rate = { low = 1, high = 2, log = 'yes' }", &["`rate.log`: expected true or false, found \"yes\""]),
        ("rate = { low = 1, hihg = 2 }", &["expected one of low, high, log", "`hihg`"]),
        ("rate = { low = 1, high = 2, choices = [1] }", &["a range and `choices`"]),
        (
            "rate = { when = { layers = 1 } }",
            &["`low` and `high`, or `choices`, or `value`, found none of them"],
        ),
        (
            "layers = { low = 1.5, high = 2 }",
            &["`layers.low`: expected a whole number from 0 to 9, found 1.5"],
        ),
        (
            "layers = { low = 1, high = 2, step = 0.5 }",
            &["`layers.step`: expected a whole number, found 0.5"],
        ),
        (
            "layers = { low = 1, high = 99 }",
            &["`layers.high`: expected a whole number from 0 to 9, found 99"],
        ),
        ("optimizer = { low = 1, high = 2 }", &["`choices` of one of adam, sgd", "a range"]),
        ("optimizer = { choices = [] }", &["one or more choices, found none"]),
        (
            "optimizer = {\nchoices = ['adam',\n'rmsprop'] }",
            &["line 3, `optimizer.choices`: expected one of adam, sgd, found \"rmsprop\""],
        ),
        ("optimizer = { choices = ['sgd', 'sgd'] }", &["each choice once, found \"sgd\" twice"]),
        (
            "momentum = { low = 0.1, high = 0.2, when = { optimizer = 'sgd' } }",
            &["`momentum.when.optimizer`: expected a parameter of this space: momentum, found `optimizer`"],
        ),
        (
            "optimizer = { choices = ['adam'] }\nmomentum = { low = 0.1, high = 0.2, when = { optimizer = 'sgd' } }",
            &[
                "line 2, `momentum.when.optimizer`: expected a value of `optimizer`, one of [\"adam\"], found \"sgd\"",
            ],
        ),
        (
            "rate = { low = 1, high = 2 }\ndecay = { value = 0.1, when = { rate = 1 } }",
            &["a parameter of choices or whole numbers"],
        ),
        (
            "layers = { low = 1, high = 2 }\nwidth = { low = 1, high = 2, each = 'rate' }",
            &["line 2, `width`: expected each = \"layers\", found each = \"rate\""],
        ),
        (
            "layers = 2\nwidth = { low = 1, high = 2 }",
            &["`width`: expected each = \"layers\", found no `each`"],
        ),
        ("layers = 2\nwidth = 16", &["line 2, `width`: expected each = \"layers\", found no `each`"]),
        ("layers = 2\nrate = { low = 1, high = 2, each = 'layers' }", &["`rate`: expected no `each`"]),
        (
            "layers = 2\nwidth = { low = 1, high = 2, each = 3 }",
            &["`width.each`: expected the name of a parameter"],
        ),
        (
            "width = { low = 1, high = 2, each = 'layers' }",
            &["`width.each`: expected a parameter of this space: width, found `layers`"],
        ),
        ("rate = 1\ndecay = 0.1", &["a parameter with a range or choices, found none"]),
    ];
    for (text, words) in wrong {
        let said = parse(text).expect_err(text).to_string();
        assert!(!said.contains('\n'), "{said}");
        assert!(said.starts_with("space.toml, line "), "{said}");
        for word in words {
            assert!(said.contains(word), "{text}: should say {word:?}: {said}");
        }
    }
    let circle = "rate = { low = 1, high = 2, when = { layers = 1 } }
        layers = { low = 0, high = 3, when = { optimizer = 'sgd' } }
        optimizer = { choices = ['adam', 'sgd'], when = { layers = 2 } }";
    let said = parse(circle).unwrap_err().to_string();
    assert!(said.contains("line 2") && said.contains("layers → optimizer → layers"), "{said}");
}

#[test]
fn a_study_goes_on_with_other_ranges_and_no_other_changes() {
    let before = "rate = { low = 1e-4, high = 1e-1, log = true }\noptimizer = { choices = ['adam', 'sgd'] }\ndecay = 0.1";
    let change = |from: &str, to: &str| {
        let after = parse(&before.replace(from, to)).unwrap();
        after.check_same_study(&parse(before).unwrap()).map_err(|error| error.to_string())
    };
    change("1e-1", "1").unwrap();
    let said = |from, to| change(from, to).unwrap_err();
    assert!(said(", log = true", "").contains("a parameter keeps its `log`"));
    assert!(said("'adam', 'sgd'", "'sgd', 'adam'").contains("keeps its choices"));
    assert!(
        said("decay = 0.1", "decay = 0.2").contains("suggested as 0.1, and now as 0.2: a fixed value stays")
    );
    assert!(said("decay = 0.1", "").contains("0.1, and now as nothing: a study keeps its parameters"));
    let when = "decay = { value = 0.1, when = { optimizer = 'sgd' } }";
    assert!(said("decay = 0.1", when).contains("where `optimizer` is \"sgd\""));
    // The winner is found again where its range has become narrower.
    let (wide, narrow) = ("rate = { low = 1e-4, high = 1 }", "rate = { low = 0.9, high = 1 }");
    let study = Study::builder("s").sampler(Random::new(1)).create().unwrap();
    let wide = parse(wide).unwrap();
    study.optimize(5, |trial| Ok(wide.sample(trial)?.float("rate").unwrap())).unwrap();
    let best = study.best_trial().unwrap();
    assert!(best.value() < Some(0.9));
    assert_eq!(parse(narrow).unwrap().replay(&best).unwrap().float("rate"), best.value());
}
