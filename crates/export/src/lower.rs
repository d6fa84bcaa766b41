//! The operators of a network's graph in those of ONNX, opset 17.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use candle_core::{DType, Tensor};
use firstsight_models::ImageClassifier;
use firstsight_models::graph::{Node, Op};
use firstsight_ops::{Activation, BatchNorm, Pool2dConfig};

use crate::builder::{Builder, float, int, ints, pair};
use crate::{Error, Result};

/// What the axes of a value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// (B, C, H, W)
    Maps,
    /// (B, N, C)
    Tokens,
    /// (B, F)
    Features,
}

/// A value that is already in the graph.
#[derive(Debug, Clone)]
struct Value {
    name: String,
    layout: Layout,
}

/// Appends the network, which takes the value `images` (B, C, H, W), and returns the name of its logits (B, n).
pub(crate) fn network(network: &ImageClassifier, images: &str, graph: &mut Builder) -> Result<String> {
    let trace = network.trace();
    let nodes = trace.nodes();
    let mut uses = vec![0; nodes.len()];
    nodes.iter().flat_map(|node| &node.inputs).for_each(|input| uses[input.index()] += 1);

    let mut values: Vec<Value> = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let input = |n: usize| node.inputs.get(n).and_then(|id| values.get(id.index()));
        // A convolution that only a batch normalization uses takes it up.
        let next =
            nodes.get(i + 1).filter(|next| uses[i] == 1 && next.inputs.iter().any(|id| id.index() == i));
        let value = match (&node.op, input(0)) {
            (Op::Input, _) => Value { name: images.to_owned(), layout: Layout::Maps },
            (Op::BatchNorm(_), Some(x)) if is_folded(nodes, i, &uses) => x.clone(),
            (Op::Conv2d { weight, bias, config }, Some(x)) => {
                let norm = next.and_then(|next| match &next.op {
                    Op::BatchNorm(norm) => Some(norm),
                    _ => None,
                });
                let (weight, bias) = match norm {
                    Some(norm) => folded(weight, bias.as_ref(), norm)?,
                    None => (weight.clone(), bias.clone()),
                };
                let name = conv(graph, &node.name, &x.name, &weight, bias.as_ref(), config)?;
                Value { name, layout: Layout::Maps }
            }
            (_, Some(x)) => Lowering { graph, node, x, other: input(1) }.lower(network.info().name)?,
            (_, None) => return Err(opaque(network.info().name, node)),
        };
        values.push(value);
    }
    let logits = values.get(trace.output().index()).map(|value| value.name.clone());
    logits.ok_or_else(|| Error::Opaque { model: network.info().name, layer: "output".to_owned() })
}

fn opaque(model: &'static str, node: &Node) -> Error {
    Error::Opaque { model, layer: node.name.clone() }
}

/// Whether the batch normalization `nodes[i]` is part of the convolution before it.
fn is_folded(nodes: &[Node], i: usize, uses: &[usize]) -> bool {
    let before = i.checked_sub(1).and_then(|before| nodes.get(before).map(|node| (before, node)));
    before.is_some_and(|(before, node)| {
        matches!(node.op, Op::Conv2d { .. })
            && uses[before] == 1
            && nodes[i].inputs.iter().any(|id| id.index() == before)
    })
}

/// A convolution's weight and bias that normalize as well: w · γ/√(σ² + ε) and (b − μ) · γ/√(σ² + ε) + β, in float64.
fn folded(weight: &Tensor, bias: Option<&Tensor>, norm: &BatchNorm) -> Result<(Tensor, Option<Tensor>)> {
    let double = |tensor: &Tensor| tensor.to_dtype(DType::F64);
    let variance = (double(&norm.running_var)? + norm.epsilon)?;
    let factor = (double(&norm.weight)? / variance.sqrt()?)?;
    let mean = double(&norm.running_mean)?;
    let shifted = match bias {
        Some(bias) => (double(bias)? - mean)?,
        None => mean.neg()?,
    };
    let bias = ((shifted * &factor)? + double(&norm.bias)?)?;
    let weight = double(weight)?.broadcast_mul(&factor.reshape(((), 1, 1, 1))?)?;
    Ok((weight, Some(bias)))
}

fn conv(
    graph: &mut Builder,
    name: &str,
    x: &str,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &firstsight_ops::Conv2dConfig,
) -> Result<String> {
    let (_, _, height, width) = weight.dims4()?;
    let weight = graph.tensor(&format!("{name}.weight"), weight)?;
    let bias = bias.map(|bias| graph.tensor(&format!("{name}.bias"), bias)).transpose()?;
    let padding = &config.padding;
    let attributes = [
        pair("kernel_shape", (height, width)),
        pair("strides", config.stride),
        ints("pads", &[padding.top, padding.left, padding.bottom, padding.right]),
        pair("dilations", config.dilation),
        int("group", config.groups as i64),
    ];
    let inputs: Vec<&str> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
    Ok(graph.node(name, "Conv", &inputs, attributes))
}

/// An operator that becomes nodes of the graph.
struct Lowering<'a> {
    graph: &'a mut Builder,
    node: &'a Node,
    x: &'a Value,
    other: Option<&'a Value>,
}

impl Lowering<'_> {
    fn lower(&mut self, model: &'static str) -> Result<Value> {
        let (x, mut layout) = (self.x.name.clone(), self.x.layout);
        let node = self.node;
        let name = match &node.op {
            Op::Identity => x,
            Op::Rescaling { scale, offset } => {
                let scaled = if *scale == 1.0 { x } else { self.by_number("Mul", &x, *scale) };
                if *offset == 0.0 { scaled } else { self.by_number("Add", &scaled, *offset) }
            }
            Op::BatchNorm(norm) => self.batch_norm(&x, norm)?,
            Op::LayerNorm { weight, bias, epsilon } => self.layer_norm(&x, weight, bias, *epsilon)?,
            Op::GlobalResponseNorm { weight, bias, epsilon } => {
                self.global_response_norm(&x, weight, bias, *epsilon)?
            }
            Op::Activation(activation) => self.activation(&x, *activation),
            Op::MaxPool(config) => {
                let attributes = self.window(config)?;
                self.of("MaxPool", &[&x], attributes)
            }
            Op::AvgPool(config) => {
                let attributes = self.window(config)?;
                self.of("AveragePool", &[&x], attributes)
            }
            Op::AdaptiveAvgPool { rows, columns } => {
                let columns = self.constant("columns", &columns.t()?.contiguous()?)?;
                let rows = self.constant("rows", rows)?;
                let narrow = self.of("MatMul", &[&x, &columns], []);
                self.of("MatMul", &[&rows, &narrow], [])
            }
            Op::GlobalAvgPool => {
                let means = match layout {
                    Layout::Maps => {
                        let means = self.of("GlobalAveragePool", &[&x], []);
                        self.of("Flatten", &[&means], [int("axis", 1)])
                    }
                    _ => self.of("ReduceMean", &[&x], [ints("axes", &[1]), int("keepdims", 0)]),
                };
                layout = Layout::Features;
                means
            }
            Op::ChannelAffine { weight, bias } => {
                let scaled = self.by_channels("Mul", "weight", &x, weight)?;
                match bias {
                    Some(bias) => self.by_channels("Add", "bias", &scaled, bias)?,
                    None => scaled,
                }
            }
            Op::PadChannels { before, after } => {
                let (before, after) = (*before as i64, *after as i64);
                self.pad(&x, &[0, before, 0, 0, 0, after, 0, 0])
            }
            Op::Add => {
                let other = self.other.ok_or_else(|| opaque(model, node))?;
                self.of("Add", &[&x, &other.name], [])
            }
            Op::ScaleChannels => {
                let scales = self.other.ok_or_else(|| opaque(model, node))?.name.clone();
                let axes = self.ints("axes", &[2, 3]);
                let scales = self.of("Unsqueeze", &[&scales, &axes], []);
                self.of("Mul", &[&x, &scales], [])
            }
            Op::Flatten => {
                layout = Layout::Features;
                self.of("Flatten", &[&x], [int("axis", 1)])
            }
            Op::Linear { weight, bias } => self.linear(&x, weight, bias.as_ref())?,
            Op::Rbf { codes } => self.rbf(&x, codes)?,
            Op::Tokens => {
                layout = Layout::Tokens;
                let rows = self.reshape(&x, &[0, 0, -1]);
                self.of("Transpose", &[&rows], [ints("perm", &[0, 2, 1])])
            }
            Op::Prepend(tokens) => self.prepend(&x, tokens)?,
            Op::AddTokens(tokens) => {
                let tokens = self.constant("tokens", tokens)?;
                self.of("Add", &[&x, &tokens], [])
            }
            Op::FirstToken => {
                layout = Layout::Features;
                let first = self.graph.int(&format!("{}.index", node.name), 0);
                self.of("Gather", &[&x, &first], [int("axis", 1)])
            }
            Op::ToWindows { tokens, area, padded } => {
                let x = if *padded { self.pad(&x, &[0, 0, 0, 0, 1, 0]) } else { x };
                let places = self.gather(&x, tokens)?;
                self.reshape(&places, &[-1, *area as i64, 0])
            }
            Op::FromWindows { places, n_places } => {
                let all = self.reshape(&x, &[-1, *n_places as i64, 0]);
                self.gather(&all, places)?
            }
            Op::MergePatches { size } => self.merge_patches(&x, *size),
            Op::SelfAttention { heads, scale, bias, mask } => {
                self.self_attention(&x, *heads, *scale, bias.as_ref(), mask.as_ref())?
            }
            _ => return Err(opaque(model, node)),
        };
        Ok(Value { name, layout })
    }

    /// A node under the operator's name.
    fn of(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        attributes: impl IntoIterator<Item = crate::proto::Attribute>,
    ) -> String {
        self.graph.node(&self.node.name, op_type, inputs, attributes)
    }

    fn constant(&mut self, name: &str, value: &Tensor) -> Result<String> {
        self.graph.tensor(&format!("{}.{name}", self.node.name), value)
    }

    fn ints(&mut self, name: &str, values: &[i64]) -> String {
        self.graph.ints(&format!("{}.{name}", self.node.name), values)
    }

    fn by_number(&mut self, op_type: &str, x: &str, number: f64) -> String {
        let number = self.graph.float(&format!("{}.number", self.node.name), number);
        self.of(op_type, &[x, &number], [])
    }

    /// Combines `x` with a number for each channel, (C,).
    fn by_channels(&mut self, op_type: &str, name: &str, x: &str, numbers: &Tensor) -> Result<String> {
        let numbers = match self.x.layout {
            Layout::Maps => numbers.reshape(((), 1, 1))?,
            Layout::Tokens | Layout::Features => numbers.clone(),
        };
        let numbers = self.constant(name, &numbers)?;
        Ok(self.of(op_type, &[x, &numbers], []))
    }

    fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let shape = self.ints("shape", shape);
        self.of("Reshape", &[x, &shape], [])
    }

    fn transpose(&mut self, x: &str, axes: &[usize]) -> String {
        self.of("Transpose", &[x], [ints("perm", axes)])
    }

    /// Zeros before each axis, then after each.
    fn pad(&mut self, x: &str, pads: &[i64]) -> String {
        let pads = self.ints("pads", pads);
        self.of("Pad", &[x, &pads], [])
    }

    /// The tokens of these numbers.
    fn gather(&mut self, x: &str, indices: &Tensor) -> Result<String> {
        let indices: Vec<i64> = indices.to_vec1::<u32>()?.into_iter().map(i64::from).collect();
        let indices = self.ints("indices", &indices);
        Ok(self.of("Gather", &[x, &indices], [int("axis", 1)]))
    }

    /// The attributes of a pooling, with padding that gives the number of windows whatever the rounding.
    fn window(&self, config: &Pool2dConfig) -> Result<[crate::proto::Attribute; 3]> {
        let (height, width) = self.node.size.unwrap_or_default();
        let output = config.output_size((height, width)).map_err(candle_core::Error::from)?;
        let after = |size: usize, output: usize, kernel: usize, stride: usize, before: usize| {
            ((output - 1) * stride + kernel).saturating_sub(size + before)
        };
        let ((kernel, stride), (top, left)) = ((config.kernel, config.stride), config.padding);
        let bottom = after(height, output.0, kernel.0, stride.0, top);
        let right = after(width, output.1, kernel.1, stride.1, left);
        Ok([pair("kernel_shape", kernel), pair("strides", stride), ints("pads", &[top, left, bottom, right])])
    }

    fn batch_norm(&mut self, x: &str, norm: &BatchNorm) -> Result<String> {
        let weight = self.constant("weight", &norm.weight)?;
        let bias = self.constant("bias", &norm.bias)?;
        let mean = self.constant("running_mean", &norm.running_mean)?;
        let variance = self.constant("running_var", &norm.running_var)?;
        let inputs = [x, &weight, &bias, &mean, &variance];
        Ok(self.of("BatchNormalization", &inputs, [float("epsilon", norm.epsilon)]))
    }

    fn layer_norm(&mut self, x: &str, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<String> {
        let weight = self.constant("weight", weight)?;
        let bias = self.constant("bias", bias)?;
        let attributes = [int("axis", -1), float("epsilon", epsilon)];
        if self.x.layout != Layout::Maps {
            return Ok(self.of("LayerNormalization", &[x, &weight, &bias], attributes));
        }
        let last = self.transpose(x, &[0, 2, 3, 1]);
        let normalized = self.of("LayerNormalization", &[&last, &weight, &bias], attributes);
        Ok(self.transpose(&normalized, &[0, 3, 1, 2]))
    }

    fn global_response_norm(
        &mut self,
        x: &str,
        weight: &Tensor,
        bias: &Tensor,
        epsilon: f64,
    ) -> Result<String> {
        let norms = self.of("ReduceL2", &[x], [ints("axes", &[2, 3]), int("keepdims", 1)]);
        let mean = self.of("ReduceMean", &[&norms], [ints("axes", &[1]), int("keepdims", 1)]);
        let mean = self.by_number("Add", &mean, epsilon);
        let relative = self.of("Div", &[&norms, &mean], []);
        let response = self.of("Mul", &[x, &relative], []);
        let scaled = self.by_channels("Mul", "weight", &response, weight)?;
        let shifted = self.by_channels("Add", "bias", &scaled, bias)?;
        Ok(self.of("Add", &[x, &shifted], []))
    }

    fn activation(&mut self, x: &str, activation: Activation) -> String {
        match activation {
            Activation::Identity => x.to_owned(),
            Activation::Relu => self.of("Relu", &[x], []),
            Activation::Relu6 => {
                let min = self.graph.float(&format!("{}.min", self.node.name), 0.0);
                let max = self.graph.float(&format!("{}.max", self.node.name), 6.0);
                self.of("Clip", &[x, &min, &max], [])
            }
            Activation::Tanh => self.of("Tanh", &[x], []),
            Activation::Sigmoid => self.of("Sigmoid", &[x], []),
            Activation::HardSigmoid => {
                self.of("HardSigmoid", &[x], [float("alpha", 1.0 / 6.0), float("beta", 0.5)])
            }
            Activation::Silu => {
                let gate = self.of("Sigmoid", &[x], []);
                self.of("Mul", &[x, &gate], [])
            }
            Activation::HardSwish => self.of("HardSwish", &[x], []),
            Activation::LeakyRelu(slope) => self.of("LeakyRelu", &[x], [float("alpha", slope)]),
            Activation::Gelu => {
                let scaled = self.by_number("Mul", x, FRAC_1_SQRT_2);
                let erf = self.of("Erf", &[&scaled], []);
                let doubled = self.by_number("Add", &erf, 1.0);
                let product = self.of("Mul", &[x, &doubled], []);
                self.by_number("Mul", &product, 0.5)
            }
            Activation::GeluTanh => {
                let square = self.of("Mul", &[x, x], []);
                let cube = self.of("Mul", &[&square, x], []);
                let cube = self.by_number("Mul", &cube, 0.044_715);
                let sum = self.of("Add", &[x, &cube], []);
                let scaled = self.by_number("Mul", &sum, (2.0 / PI).sqrt());
                let tanh = self.of("Tanh", &[&scaled], []);
                let doubled = self.by_number("Add", &tanh, 1.0);
                let product = self.of("Mul", &[x, &doubled], []);
                self.by_number("Mul", &product, 0.5)
            }
        }
    }

    fn linear(&mut self, x: &str, weight: &Tensor, bias: Option<&Tensor>) -> Result<String> {
        let name = &self.node.name;
        match self.x.layout {
            Layout::Maps => {
                let (n_out, n_in) = weight.dims2()?;
                let weight = weight.reshape((n_out, n_in, 1, 1))?;
                conv(self.graph, name, x, &weight, bias, &firstsight_ops::Conv2dConfig::default())
            }
            Layout::Features => {
                let weight = self.constant("weight", weight)?;
                let bias = bias.map(|bias| self.constant("bias", bias)).transpose()?;
                let inputs: Vec<&str> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
                Ok(self.of("Gemm", &inputs, [int("transB", 1)]))
            }
            Layout::Tokens => {
                let weight = self.constant("weight", &weight.t()?.contiguous()?)?;
                let product = self.of("MatMul", &[x, &weight], []);
                let Some(bias) = bias else { return Ok(product) };
                let bias = self.constant("bias", bias)?;
                Ok(self.of("Add", &[&product, &bias], []))
            }
        }
    }

    fn rbf(&mut self, x: &str, codes: &Tensor) -> Result<String> {
        let squares_of_codes = self.constant("squares", &codes.sqr()?.sum(1)?)?;
        let codes = self.constant("codes", &codes.t()?.contiguous()?)?;
        let products = self.of("MatMul", &[x, &codes], []);
        let doubled = self.by_number("Mul", &products, 2.0);
        let squares = self.of("Mul", &[x, x], []);
        let axes = self.ints("axes", &[1]);
        let squares = self.of("ReduceSum", &[&squares, &axes], [int("keepdims", 1)]);
        let difference = self.of("Sub", &[&doubled, &squares], []);
        Ok(self.of("Sub", &[&difference, &squares_of_codes], []))
    }

    fn prepend(&mut self, x: &str, tokens: &Tensor) -> Result<String> {
        let (_, n, channels) = tokens.dims3()?;
        let tokens = self.constant("tokens", tokens)?;
        let batch = self.of("Shape", &[x], [int("start", 0), int("end", 1)]);
        let rest = self.ints("rest", &[n as i64, channels as i64]);
        let shape = self.of("Concat", &[&batch, &rest], [int("axis", 0)]);
        let tokens = self.of("Expand", &[&tokens, &shape], []);
        Ok(self.of("Concat", &[&tokens, x], [int("axis", 1)]))
    }

    fn merge_patches(&mut self, x: &str, (height, width): (usize, usize)) -> String {
        let (rows, columns) = (height.div_ceil(2) as i64, width.div_ceil(2) as i64);
        let (height, width) = (height as i64, width as i64);
        let mut maps = self.reshape(x, &[0, height, width, -1]);
        if height % 2 + width % 2 > 0 {
            maps = self.pad(&maps, &[0, 0, 0, 0, 0, height % 2, width % 2, 0]);
        }
        let patches = self.reshape(&maps, &[0, rows, 2, columns, 2, -1]);
        let patches = self.transpose(&patches, &[0, 1, 3, 4, 2, 5]);
        // Six axes to three: the last has the rest.
        self.reshape(&patches, &[0, rows * columns, -1])
    }

    fn self_attention(
        &mut self,
        qkv: &str,
        heads: usize,
        scale: f64,
        bias: Option<&Tensor>,
        mask: Option<&Tensor>,
    ) -> Result<String> {
        let parts = self.reshape(qkv, &[0, 0, 3, heads as i64, -1]);
        let by_part = |lowering: &mut Self, part: i64, axes: &[usize]| {
            let index = lowering.graph.int(&format!("{}.part", lowering.node.name), part);
            let part = lowering.of("Gather", &[&parts, &index], [int("axis", 2)]);
            lowering.transpose(&part, axes)
        };
        // (B, N, heads, d) to (B, heads, N, d), the keys transposed.
        let queries = by_part(self, 0, &[0, 2, 1, 3]);
        let keys = by_part(self, 1, &[0, 2, 3, 1]);
        let values = by_part(self, 2, &[0, 2, 1, 3]);
        let queries = self.by_number("Mul", &queries, scale);
        let mut scores = self.of("MatMul", &[&queries, &keys], []);
        if let Some(bias) = bias {
            let bias = self.constant("bias", bias)?;
            scores = self.of("Add", &[&scores, &bias], []);
        }
        if let Some(mask) = mask {
            let (groups, _, n, _) = mask.dims4()?;
            let (heads, n) = (heads as i64, n as i64);
            let mask = self.constant("mask", &mask.unsqueeze(0)?)?;
            scores = self.reshape(&scores, &[-1, groups as i64, heads, n, n]);
            scores = self.of("Add", &[&scores, &mask], []);
            scores = self.reshape(&scores, &[-1, heads, n, n]);
        }
        let weights = self.of("Softmax", &[&scores], [int("axis", -1)]);
        let sums = self.of("MatMul", &[&weights, &values], []);
        let tokens = self.transpose(&sums, &[0, 2, 1, 3]);
        Ok(self.reshape(&tokens, &[0, 0, -1]))
    }
}
