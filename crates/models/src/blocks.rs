//! Parts of a network that fine-tuning freezes or trains as one.

use crate::ModelInfo;
use crate::summary::Entry;

/// A part of a network: the variables whose names begin with one of its prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Name, such as `stem`, `blocks.3`, `classifier`.
    pub name: String,
    /// Beginnings of variable names, each ending with a dot, which a whole name lacks (`pos_embed.`).
    pub prefixes: Vec<String>,
}

impl Block {
    fn new(name: &str, prefixes: &[&str]) -> Self {
        Self { name: name.to_owned(), prefixes: prefixes.iter().map(|prefix| format!("{prefix}.")).collect() }
    }

    /// Whether the variable of this name belongs to the block.
    pub fn holds(&self, variable: &str) -> bool {
        let held = |prefix: &String| {
            variable.starts_with(prefix) || prefix.strip_suffix('.').is_some_and(|whole| whole == variable)
        };
        self.prefixes.iter().any(held)
    }
}

/// The blocks of a network with these layers, from the input to the last layer, `head`.
pub(crate) fn blocks(info: &ModelInfo, layers: &[Entry], head: &str) -> Vec<Block> {
    let holds_variables = |block: &Block| {
        layers.iter().any(|layer| layer.params > 0 && block.holds(&format!("{}.", layer.name)))
    };
    let mut blocks: Vec<Block> = info
        .blocks
        .iter()
        .map(|(name, prefixes)| Block::new(name, prefixes))
        .filter(holds_variables)
        .collect();
    for layer in layers.iter().filter(|layer| layer.params > 0 && layer.name != head) {
        let held = |block: &Block| block.holds(&format!("{}.", layer.name));
        if !blocks.iter().any(held) {
            let name = layer.name.split('.').next().unwrap_or(&layer.name);
            blocks.push(Block::new(name, &[name]));
        }
    }
    blocks.push(Block::new(head, &[head]));
    blocks
}
