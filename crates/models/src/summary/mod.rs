//! Layer tables with output shapes and parameter counts, in three listings.
//!
//! A [`Trace`] has the layers of a network once, under our names. [`Summary`] is a table of them, in the project's own
//! form, in Keras's (with [Keras's names](keras_names)) or in timm's.

mod firstsight;
mod keras;
pub mod keras_names;
mod table;
mod timm;
mod trace;

use std::fmt;

pub use trace::{Entry, LayerKind, Place, Trace};

use crate::{InputShape, ModelInfo};

/// Layer table of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Name of the network.
    pub model: String,
    /// Shape of one input.
    pub input: InputShape,
    /// Form of the table.
    pub style: Style,
    /// One row per layer, in order.
    pub rows: Vec<Row>,
}

/// Form of a layer table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Modules by the prefix of their variables, with multiply-adds and memory.
    Firstsight,
    /// Keras's `model.summary()`: every layer, sums and activations included, by Keras's names.
    Keras,
    /// timm's modules with PyTorch's classes; shapes have the channels first.
    Timm,
}

/// Layer of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Name of the layer.
    pub name: String,
    /// Its class in Keras or PyTorch.
    pub kind: &'static str,
    /// Shape of one output.
    pub output: InputShape,
    /// Number of parameters. Running statistics are none.
    pub params: usize,
    /// Number of parameters that training changes: all, unless [`Summary::freeze`] says otherwise.
    pub trainable: usize,
    /// Number of values that are saved and not trained: running statistics.
    pub buffers: usize,
    /// Multiply-adds for one input.
    pub multiply_adds: u64,
}

impl Row {
    /// The row of a layer.
    pub fn new(name: impl Into<String>, kind: &'static str, layer: &Entry) -> Self {
        let mut row = Self::without_counts(name, kind, layer.output);
        row.add_counts(layer);
        row
    }

    fn without_counts(name: impl Into<String>, kind: &'static str, output: InputShape) -> Self {
        let (params, trainable, buffers, multiply_adds) = (0, 0, 0, 0);
        Self { name: name.into(), kind, output, params, trainable, buffers, multiply_adds }
    }

    fn add_counts(&mut self, layer: &Entry) {
        self.params += layer.params;
        self.trainable += layer.params;
        self.buffers += layer.buffers;
        self.multiply_adds += layer.multiply_adds;
    }

    /// Bytes of one output in float32.
    pub fn output_bytes(&self) -> usize {
        4 * self.output.count()
    }

    /// Bytes of the parameters and running statistics in float32.
    pub fn weight_bytes(&self) -> usize {
        4 * (self.params + self.buffers)
    }
}

impl Summary {
    pub(crate) fn new(info: &ModelInfo, input: InputShape, style: Style, trace: &Trace) -> Self {
        let rows = match style {
            Style::Firstsight => firstsight::rows(trace.entries()),
            Style::Keras => (info.keras_names)(trace.entries()),
            Style::Timm => timm::rows(trace.entries()),
        };
        Self { model: info.name.to_owned(), input, style, rows }
    }

    /// Number of parameters of all layers. Running statistics are none, as in PyTorch.
    pub fn total_params(&self) -> usize {
        self.rows.iter().map(|row| row.params).sum()
    }

    /// Number of parameters that training changes.
    pub fn trainable_params(&self) -> usize {
        self.rows.iter().map(|row| row.trainable).sum()
    }

    /// The same table with the layers frozen whose names `select` accepts.
    pub fn freeze(mut self, select: impl Fn(&str) -> bool) -> Self {
        for row in self.rows.iter_mut().filter(|row| select(&row.name)) {
            row.trainable = 0;
        }
        self
    }

    /// The rows up to the last feature maps or tokens: Keras's `include_top=False`, timm's `forward_features`.
    pub fn without_head(mut self) -> Self {
        let maps = self.rows.iter().rposition(|row| !matches!(row.output, InputShape::Features(_)));
        self.rows.truncate(maps.map_or(0, |last| last + 1));
        self
    }

    /// Bytes of the parameters and running statistics in float32.
    pub fn weight_bytes(&self) -> usize {
        self.rows.iter().map(Row::weight_bytes).sum()
    }

    /// Bytes of the outputs of all layers for one input in float32, which training keeps for the backward pass.
    pub fn output_bytes(&self) -> usize {
        self.rows.iter().map(Row::output_bytes).sum()
    }

    /// Number of running statistics, which Keras counts as parameters that are not trainable.
    pub fn buffers(&self) -> usize {
        self.rows.iter().map(|row| row.buffers).sum()
    }

    /// Multiply-adds for one input.
    pub fn multiply_adds(&self) -> u64 {
        self.rows.iter().map(|row| row.multiply_adds).sum()
    }
}

impl fmt::Display for Summary {
    /// A table for the terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            Style::Firstsight => firstsight::write(self, f),
            Style::Keras => keras::write(self, f),
            Style::Timm => timm::write(self, f),
        }
    }
}
