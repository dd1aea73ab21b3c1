//! Named arrays in and out: forests, patterns, rules, templates as NumPy has them.

use super::Shared;
use super::expansion::{Instance, Part, Templates, VARIABLES};
use super::forest::{Forest, Node};
use super::patterns::{Demand, Patterns};
use super::rules::{Item, Kind, Rules};
use crate::operations::{Array, Arrays, BuildError};

fn missing(key: &'static str, kind: &str) -> BuildError {
    BuildError::Value { key, problem: format!("is missing or not an array of {kind}") }
}

/// Reads an array of one type by its name.
macro_rules! reader {
    ($name:ident, $variant:ident, $kind:ty) => {
        pub fn $name<'a>(inputs: &'a Arrays, key: &'static str) -> Result<&'a [$kind], BuildError> {
            match inputs.get(key) {
                Some(Array::$variant(values)) => Ok(values),
                _ => Err(missing(key, stringify!($kind))),
            }
        }
    };
}

reader!(small, U8, u8);
reader!(halves, U16, u16);
reader!(words, U32, u32);
reader!(longs, U64, u64);

pub fn wrong(key: &'static str, problem: impl Into<String>) -> BuildError {
    BuildError::Value { key, problem: problem.into() }
}

fn same_length(key: &'static str, lengths: &[usize]) -> Result<usize, BuildError> {
    if lengths.iter().any(|&length| length != lengths[0]) {
        return Err(wrong(key, "and what belongs to it differ in length"));
    }
    Ok(lengths[0])
}

/// The parts of a list that ends cut up.
fn cut<'a, T>(
    key: &'static str,
    first: &[u32],
    values: &'a [T],
) -> Result<Vec<&'a [T]>, BuildError> {
    if first.is_empty() {
        return Err(wrong(key, "is empty; it holds a start for each, and the end"));
    }
    let part = |ends: &[u32]| {
        values
            .get(ends[0] as usize..ends[1] as usize)
            .ok_or_else(|| wrong(key, format!("{} to {} lies outside", ends[0], ends[1])))
    };
    first.windows(2).map(part).collect()
}

pub fn forest_from(inputs: &Arrays) -> Result<Forest, BuildError> {
    let (kinds, counts) = (small(inputs, "type")?, small(inputs, "count")?);
    let (values, first) = (words(inputs, "value")?, words(inputs, "first")?);
    let next = words(inputs, "next")?;
    let lengths = [kinds.len(), counts.len(), values.len(), first.len(), next.len()];
    let length = same_length("type", &lengths)?;
    if length >= u32::MAX as usize {
        return Err(wrong("type", format!("{length} nodes are too many")));
    }
    let node = |at: usize| Node {
        first: first[at],
        next: next[at],
        ..Node::new(kinds[at], counts[at], values[at])
    };
    let mut forest = Forest {
        nodes: (0..length).map(node).collect(),
        kinds: vec![0; length],
        counts: vec![0; length],
        marks: vec![0; length],
        submarks: vec![0; length],
        roots: words(inputs, "roots")?.to_vec(),
    };
    forest.split();
    forest.check().map_err(|problem| wrong("first", problem))?;
    Ok(forest)
}

pub fn forest_to(nodes: &[Node], roots: &[u32]) -> Arrays {
    let column = |field: fn(&Node) -> u32| Array::U32(nodes.iter().map(field).collect());
    Arrays::from([
        ("type".to_owned(), Array::U8(nodes.iter().map(Node::kind).collect())),
        ("count".to_owned(), Array::U8(nodes.iter().map(Node::count).collect())),
        ("value".to_owned(), column(|node| node.value)),
        ("first".to_owned(), column(|node| node.first)),
        ("next".to_owned(), column(|node| node.next)),
        ("roots".to_owned(), Array::U32(roots.to_vec())),
    ])
}

fn demands_from(inputs: &Arrays) -> Result<Vec<Demand>, BuildError> {
    let (kinds, counts) = (small(inputs, "pattern_type")?, small(inputs, "pattern_count")?);
    let (values, flags) = (words(inputs, "pattern_value")?, small(inputs, "pattern_flags")?);
    let lengths = [kinds.len(), counts.len(), values.len(), flags.len()];
    let length = same_length("pattern_type", &lengths)?;
    let demand = |at: usize| Demand {
        kind: kinds[at],
        count: counts[at],
        value: values[at],
        flags: flags[at],
    };
    Ok((0..length).map(demand).collect())
}

pub fn patterns_from(inputs: &Arrays) -> Result<Patterns, BuildError> {
    let demands = demands_from(inputs)?;
    let mut patterns = Patterns::new();
    let parts = cut("pattern_first", words(inputs, "pattern_first")?, &demands)?;
    for (number, part) in parts.into_iter().enumerate() {
        patterns
            .push(part)
            .map_err(|problem| wrong("pattern_first", format!("pattern {number}: {problem}")))?;
    }
    Ok(patterns)
}

pub fn patterns_to(patterns: &Patterns) -> Arrays {
    let places = &patterns.places;
    Arrays::from([
        ("pattern_first".to_owned(), Array::U32(patterns.first.clone())),
        ("pattern_type".to_owned(), Array::U8(places.iter().map(|place| place.kind()).collect())),
        ("pattern_count".to_owned(), Array::U8(places.iter().map(|place| place.count()).collect())),
        ("pattern_value".to_owned(), Array::U32(places.iter().map(|place| place.value).collect())),
        ("pattern_flags".to_owned(), Array::U8(places.iter().map(|place| place.flags).collect())),
    ])
}

fn items_from(inputs: &Arrays) -> Result<Vec<Item>, BuildError> {
    let (kinds, types) = (small(inputs, "item_kind")?, small(inputs, "item_type")?);
    let (counts, values) = (small(inputs, "item_count")?, words(inputs, "item_value")?);
    let keeps = small(inputs, "item_keeps_value")?;
    let lengths = [kinds.len(), types.len(), counts.len(), values.len(), keeps.len()];
    let length = same_length("item_kind", &lengths)?;
    let item = |at: usize| {
        let kind = match kinds[at] {
            0 => Kind::New,
            1 => Kind::Capture,
            2 => Kind::Adopt,
            other => return Err(wrong("item_kind", format!("{other} is not 0, 1 or 2"))),
        };
        let (node_type, count, value) = (types[at], counts[at], values[at]);
        Ok(Item { kind, node_type, count, keeps_value: keeps[at] != 0, value, span: 0 })
    };
    (0..length).map(item).collect()
}

pub fn rules_from(inputs: &Arrays) -> Result<Rules, BuildError> {
    let (demands, items) = (demands_from(inputs)?, items_from(inputs)?);
    let patterns = cut("pattern_first", words(inputs, "pattern_first")?, &demands)?;
    let replacements = cut("item_first", words(inputs, "item_first")?, &items)?;
    same_length("item_first", &[patterns.len(), replacements.len()])?;
    let mut rules = Rules::new();
    for (number, (pattern, items)) in patterns.into_iter().zip(replacements).enumerate() {
        rules
            .push(pattern, items)
            .map_err(|problem| wrong("item_first", format!("rule {number}: {problem}")))?;
    }
    Ok(rules)
}

fn rules_to(rules: &Rules) -> Arrays {
    let items = &rules.items;
    let column = |field: fn(&Item) -> u8| Array::U8(items.iter().map(field).collect());
    let mut arrays = patterns_to(&rules.patterns);
    arrays.extend([
        ("item_first".to_owned(), Array::U32(rules.first.clone())),
        ("item_kind".to_owned(), column(|item| item.kind as u8)),
        ("item_type".to_owned(), column(|item| item.node_type)),
        ("item_count".to_owned(), column(|item| item.count)),
        ("item_value".to_owned(), Array::U32(items.iter().map(|item| item.value).collect())),
        ("item_keeps_value".to_owned(), column(|item| u8::from(item.keeps_value))),
    ]);
    arrays
}

pub fn templates_from(inputs: &Arrays) -> Result<Templates, BuildError> {
    let (starts, lengths) = (words(inputs, "part_start")?, halves(inputs, "part_length")?);
    let variables = small(inputs, "part_variable")?;
    let length = same_length("part_start", &[starts.len(), lengths.len(), variables.len()])?;
    let part = |at: usize| Part { start: starts[at], length: lengths[at], variable: variables[at] };
    let parts: Vec<Part> = (0..length).map(part).collect();
    let first = words(inputs, "template_first")?;
    Templates::new(first, &parts, small(inputs, "literal")?)
        .map_err(|problem| wrong("template_first", problem))
}

pub fn instances_from(inputs: &Arrays) -> Result<Vec<Instance>, BuildError> {
    let (templates, bindings) = (words(inputs, "template")?, words(inputs, "binding")?);
    if bindings.len() != VARIABLES * templates.len() {
        let problem = format!("needs {VARIABLES} entries for each of {}", templates.len());
        return Err(wrong("binding", problem));
    }
    let rows = bindings.chunks_exact(VARIABLES);
    let instance = |(&template, row): (&u32, &[u32])| Instance {
        template,
        bindings: std::array::from_fn(|variable| row[variable]),
    };
    Ok(templates.iter().zip(rows).map(instance).collect())
}

impl Shared {
    /// The inputs of the operation `key` of this component, as they were generated.
    ///
    /// # Errors
    /// No such op, no `key`, or another seed.
    pub fn inputs(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let &[key] = longs(inputs, "key")? else {
            return Err(wrong("key", "is not one u64"));
        };
        if longs(inputs, "seed")? != [self.seed] {
            return Err(wrong("seed", format!("the component was built for seed {}", self.seed)));
        }
        let index = self.index_of(key);
        let forest = &self.forests[index];
        let mut arrays = forest_to(&forest.nodes, &forest.roots);
        let letters = &self.text[..self.parameters.text_bytes as usize];
        Ok(match op {
            "match" => {
                arrays.extend(patterns_to(&self.matcher.patterns));
                arrays
            }
            "transform" => {
                arrays.extend(rules_to(&self.rewriter.rules));
                arrays
            }
            "expand" => self.expansion_inputs(index),
            "template_compare" => Arrays::from([
                ("trees".to_owned(), Array::U8(self.trees.clone())),
                ("template_tokens".to_owned(), Array::U8(self.tree_tokens.0.clone())),
                ("template_flags".to_owned(), Array::U8(self.tree_tokens.1.clone())),
            ]),
            "byte_match" => Arrays::from([
                ("text".to_owned(), Array::U8(letters.to_vec())),
                ("pattern_first".to_owned(), Array::U32(self.byte_demands.0.clone())),
                ("pattern_bytes".to_owned(), Array::U8(self.byte_demands.1.clone())),
                ("pattern_flags".to_owned(), Array::U8(self.byte_demands.2.clone())),
            ]),
            _ => return Err(wrong("op", format!("there is no op `{op}`"))),
        })
    }

    fn expansion_inputs(&self, index: usize) -> Arrays {
        let instances = &self.instances[index];
        let mut arrays = self.expander.templates.arrays();
        arrays.extend(self.expander.texts.arrays());
        let templates = instances.iter().map(|instance| instance.template).collect();
        let bindings = instances.iter().flat_map(|instance| instance.bindings).collect();
        arrays.insert("template".to_owned(), Array::U32(templates));
        arrays.insert("binding".to_owned(), Array::U32(bindings));
        arrays
    }
}
