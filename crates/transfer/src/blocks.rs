//! A network's parts from the input to the last layer, as fine-tuning thaws them.

use firstsight_models::{ModelKind, Params};

use crate::{Error, Result};

/// A part of a network: the variables whose names begin with one of its prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What it is called: `stem`, `blocks.3`, `block12`, `classifier`.
    pub name: String,
    /// Beginnings of variables' names, up to a dot.
    pub prefixes: Vec<String>,
}

impl Block {
    fn new(name: &str, prefixes: &[&str]) -> Self {
        Self { name: name.to_owned(), prefixes: prefixes.iter().map(|p| format!("{p}.")).collect() }
    }

    /// Whether a variable of this name belongs to it.
    pub fn holds(&self, variable: &str) -> bool {
        self.prefixes.iter().any(|prefix| variable.starts_with(prefix))
    }
}

/// The parts of a network of this kind with these variables, from the input on, the last layer last.
pub fn blocks(model: ModelKind, params: &Params, head: &str) -> Vec<Block> {
    let numbered = |prefix: &str, from: usize, to: usize| -> Vec<Block> {
        (from..=to).map(|i| format!("{prefix}{i}")).map(|name| Block::new(&name, &[&name])).collect()
    };
    let mut parts = match model {
        ModelKind::MobileNetV2 => [
            vec![Block::new("stem", &["conv_stem", "bn1"])],
            numbered("blocks.", 0, 6),
            vec![Block::new("conv_head", &["conv_head", "bn2"])],
        ]
        .concat(),
        ModelKind::Xception => [
            vec![Block::new("stem", &["conv1", "bn1", "conv2", "bn2"])],
            numbered("block", 1, 12),
            vec![Block::new("exit", &["conv3", "bn3", "conv4", "bn4"])],
        ]
        .concat(),
        // The other networks are small: each layer is a part, in the order of their names.
        _ => {
            let mut names: Vec<String> =
                params.names().iter().filter_map(|n| Some(n.split_once('.')?.0.to_owned())).collect();
            names.dedup();
            names.iter().filter(|name| *name != head).map(|name| Block::new(name, &[name])).collect()
        }
    };
    parts.push(Block::new(head, &[head]));
    parts
}

/// The place of the block called `name`.
///
/// # Errors
/// [`Error::Setting`] lists the names there are.
pub(crate) fn place(blocks: &[Block], name: &str) -> Result<usize> {
    blocks.iter().position(|block| block.name == name).ok_or_else(|| {
        let names: Vec<&str> = blocks.iter().map(|block| block.name.as_str()).collect();
        Error::Setting {
            setting: "the block to unfreeze from",
            expected: format!("one of {}", names.join(", ")),
            found: name.to_owned(),
        }
    })
}
