//! Nodes and constants of an ONNX graph under unique names.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::proto::{self, AttributeType, DataType};

/// A graph under construction. Values are named.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    nodes: Vec<proto::Node>,
    constants: Vec<proto::Tensor>,
    names: HashMap<String, usize>,
}

impl Builder {
    /// Appends a node of one output and returns its name, `name` or, where that is taken, `name` with a number.
    pub(crate) fn node(
        &mut self,
        name: &str,
        op_type: &str,
        inputs: &[&str],
        attributes: impl IntoIterator<Item = proto::Attribute>,
    ) -> String {
        let output = self.unique(name);
        self.nodes.push(proto::Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.clone()],
            // Not the name of a value: rten has one space of names for both.
            name: Some(format!("/{output}/{op_type}")),
            op_type: Some(op_type.to_owned()),
            attribute: attributes.into_iter().collect(),
        });
        output
    }

    /// A constant of float32.
    pub(crate) fn tensor(&mut self, name: &str, value: &Tensor) -> Result<String> {
        let value = value.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let values = value.flatten_all()?.to_vec1::<f32>()?;
        Ok(self.floats(name, value.dims(), &values))
    }

    /// A constant of float32.
    pub(crate) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, dims, DataType::Float, data)
    }

    /// A constant of one float32.
    pub(crate) fn float(&mut self, name: &str, value: f64) -> String {
        self.floats(name, &[], &[value as f32])
    }

    /// A list of whole numbers as a constant.
    pub(crate) fn ints(&mut self, name: &str, values: &[i64]) -> String {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, &[values.len()], DataType::Int64, data)
    }

    /// A whole number as a constant.
    pub(crate) fn int(&mut self, name: &str, value: i64) -> String {
        self.constant(name, &[], DataType::Int64, value.to_le_bytes().to_vec())
    }

    fn constant(&mut self, name: &str, dims: &[usize], data_type: DataType, data: Vec<u8>) -> String {
        let name = self.unique(name);
        self.constants.push(proto::Tensor {
            dims: dims.iter().map(|&n| n as i64).collect(),
            data_type: Some(data_type.into()),
            name: Some(name.clone()),
            raw_data: Some(data),
        });
        name
    }

    /// `name`, which no other value then has.
    pub(crate) fn unique(&mut self, name: &str) -> String {
        let n = self.names.entry(name.to_owned()).or_default();
        *n += 1;
        match *n {
            1 => name.to_owned(),
            n => self.unique(&format!("{name}_{n}")),
        }
    }

    /// Calls the value `from` `to` from here on. No node takes it yet.
    pub(crate) fn renamed(&mut self, from: &str, to: &str) -> String {
        let to = self.unique(to);
        for output in self.nodes.iter_mut().flat_map(|node| &mut node.output).filter(|output| *output == from)
        {
            output.clone_from(&to);
        }
        to
    }

    /// The graph from `input` to `output`.
    pub(crate) fn build(self, name: &str, input: proto::ValueInfo, output: proto::ValueInfo) -> proto::Graph {
        proto::Graph {
            node: self.nodes,
            name: Some(name.to_owned()),
            initializer: self.constants,
            input: vec![input],
            output: vec![output],
        }
    }
}

/// A whole number as an attribute.
pub(crate) fn int(name: &str, value: i64) -> proto::Attribute {
    let (name, r#type) = (Some(name.to_owned()), Some(AttributeType::Int.into()));
    proto::Attribute { name, i: Some(value), r#type, ..proto::Attribute::default() }
}

/// A number as an attribute.
pub(crate) fn float(name: &str, value: f64) -> proto::Attribute {
    let (name, r#type) = (Some(name.to_owned()), Some(AttributeType::Float.into()));
    proto::Attribute { name, f: Some(value as f32), r#type, ..proto::Attribute::default() }
}

/// A list of whole numbers as an attribute.
pub(crate) fn ints(name: &str, values: &[usize]) -> proto::Attribute {
    let (name, r#type) = (Some(name.to_owned()), Some(AttributeType::Ints.into()));
    let ints = values.iter().map(|&value| value as i64).collect();
    proto::Attribute { name, ints, r#type, ..proto::Attribute::default() }
}

/// A pair of rows and columns as an attribute.
pub(crate) fn pair(name: &str, (rows, columns): (usize, usize)) -> proto::Attribute {
    ints(name, &[rows, columns])
}
