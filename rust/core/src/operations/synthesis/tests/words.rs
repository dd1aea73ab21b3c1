//! Expansions, linearised trees and byte patterns: the answers of their definitions.

use proptest::prelude::*;

use crate::operations::NoPause;
use crate::operations::instructions::InstructionSet;
use crate::operations::synthesis::bytes::{BytePatterns, ROUND};
use crate::operations::synthesis::expansion::{
    Expander, ExpansionError, Instance, NO_VARIABLE, Part, STRIDE, Templates, Texts, UNBOUND,
    VARIABLES,
};
use crate::operations::synthesis::patterns::pair;
use crate::operations::synthesis::sieve::MARGIN;
use crate::operations::synthesis::tile::{TOKENS, Tile};
use crate::operations::synthesis::tiles::TreeTemplates;

fn any_expander() -> impl Strategy<Value = Expander> {
    let text = prop::collection::vec(any::<u8>(), 0..80);
    let part = (0u32..100, 0u16..100, prop::sample::select(vec![0u8, 1, 3, NO_VARIABLE]));
    let template = prop::collection::vec(part, 0..6);
    let texts = prop::collection::vec(text, 1..10);
    (texts, prop::collection::vec(template, 1..10), prop::collection::vec(any::<u8>(), 200))
        .prop_map(|(texts, drawn, literals)| {
            let mut first = vec![0];
            first.extend(texts.iter().scan(0, |end, text| {
                *end += text.len() as u32;
                Some(*end)
            }));
            let (mut template_first, mut parts) = (vec![0], Vec::new());
            for template in drawn {
                parts.extend(template.into_iter().map(|(start, length, variable)| Part {
                    start,
                    length,
                    variable,
                }));
                template_first.push(parts.len() as u32);
            }
            Expander {
                templates: Templates::new(&template_first, &parts, &literals).unwrap(),
                texts: Texts::new(&first, &texts.concat()).unwrap(),
            }
        })
}

fn expanded(expander: &Expander, instances: &[Instance]) -> Result<Vec<u8>, ExpansionError> {
    let mut offsets = vec![0; instances.len() + 1];
    let length = expander.measure(instances, &mut offsets, usize::MAX, &mut NoPause)?;
    let mut bytes = vec![0xEE; length + STRIDE];
    expander.write(instances, &offsets, &mut bytes, &mut NoPause);
    bytes.truncate(length);
    Ok(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn expansions_are_literals_and_texts_one_after_the_other(
        expander in any_expander(),
        drawn in prop::collection::vec((0u32..12, prop::array::uniform4(0u32..12)), 0..40),
        room in any::<prop::sample::Index>(),
    ) {
        let instances: Vec<Instance> =
            drawn.into_iter().map(|(template, bindings)| Instance { template, bindings }).collect();
        let mut expected = Vec::new();
        match expanded(&expander, &instances) {
            Ok(bytes) => {
                instances.iter().for_each(|each| expander.expand_plainly(each, &mut expected));
                prop_assert_eq!(&bytes, &expected);
                // One byte less than is needed is refused before anything is written.
                let most = room.index(bytes.len().max(1));
                let mut offsets = vec![0; instances.len() + 1];
                let refused = expander.measure(&instances, &mut offsets, most, &mut NoPause);
                prop_assert_eq!(refused.is_err(), most < bytes.len());
            }
            Err(ExpansionError::NoTemplate { instance, template }) => {
                prop_assert_eq!(instances[instance].template, template);
            }
            Err(ExpansionError::NoText { instance, variable, text }) => {
                prop_assert_eq!(instances[instance].bindings[variable], text);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn templates_agree_with_the_trees_of_the_definition(
        trees in prop::collection::vec(prop::collection::vec(0u8..3, TOKENS), 0..150),
        drawn in prop::collection::vec(
            (prop::collection::vec(0u8..3, TOKENS), any::<u64>(), any::<u64>(), any::<u64>()),
            0..40,
        ),
    ) {
        let tokens: Vec<u8> = drawn.iter().flat_map(|each| each.0.iter().copied()).collect();
        let flags: Vec<u8> = drawn
            .iter()
            .flat_map(|each| {
                let mask = each.1 & each.2 & each.3 & 0x8421_0000_1000_0421;
                (0..TOKENS).map(move |place| (mask >> place & 1) as u8)
            })
            .collect();
        let mut expected = Vec::new();
        for (tree, own) in trees.iter().enumerate() {
            for template in 0..drawn.len() {
                let agrees = (0..TOKENS).all(|place| {
                    let at = template * TOKENS + place;
                    flags[at] == 0 || tokens[at] == own[place]
                });
                if agrees {
                    expected.push(pair(tree as u32, template as u32));
                }
            }
        }
        let trees = trees.concat();
        let templates = TreeTemplates::new(&tokens, &flags, &trees);
        for set in InstructionSet::available() {
            let mut pairs = Vec::new();
            templates.run(set.compare(), &trees, &mut Tile::default(), &mut pairs, &mut NoPause);
            prop_assert_eq!(&pairs, &expected, "{:?}", set);
        }
    }

    #[test]
    fn byte_patterns_occur_where_the_definition_says(
        text in prop::collection::vec(0u8..3, 0..400),
        drawn in prop::collection::vec(
            prop::collection::vec((0u8..3, prop::bool::weighted(0.6)), 1..33), 0..60,
        ),
    ) {
        let given: Vec<Demands> = drawn;
        prop_assert_eq!(occurrences(&text, &given), plain_occurrences(&text, &given));
    }

    #[test]
    fn byte_patterns_cut_from_a_text_of_many_letters_are_found(
        text in prop::collection::vec(0u8..251, 40..600),
        drawn in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<u32>(), 4usize..33, prop::option::of(0u8..251)),
            1..60,
        ),
    ) {
        let cut = |(start, wild, length, other): (prop::sample::Index, u32, usize, Option<u8>)| {
            let start = start.index(text.len() - 33);
            let own = text[start..start + length].iter().enumerate();
            let mut demands: Demands =
                own.map(|(place, &byte)| (byte, wild >> place & 1 != 0)).collect();
            demands[0] = (other.unwrap_or(text[start]), true);
            demands
        };
        let given: Vec<Demands> = drawn.into_iter().map(cut).collect();
        let found = occurrences(&text, &given);
        prop_assert_eq!(found, plain_occurrences(&text, &given));
    }
}

/// What a byte pattern holds: bytes, and whether each is demanded.
type Demands = Vec<(u8, bool)>;

fn plain_occurrences(text: &[u8], given: &[Demands]) -> Vec<u64> {
    let mut expected = Vec::new();
    for position in 0..text.len() {
        for (number, pattern) in given.iter().enumerate() {
            let here = text.get(position..position + pattern.len());
            let occurs = here.is_some_and(|here| {
                let pairs = here.iter().zip(pattern);
                pairs.into_iter().all(|(byte, (wanted, is_wanted))| !is_wanted || byte == wanted)
            });
            if occurs {
                expected.push(pair(position as u32, number as u32));
            }
        }
    }
    expected
}

/// The occurrences by each set of instructions, which must be the same.
fn occurrences(text: &[u8], given: &[Demands]) -> Vec<u64> {
    let (mut first, mut bytes, mut flags) = (vec![0], Vec::new(), Vec::new());
    for pattern in given {
        bytes.extend(pattern.iter().map(|each| each.0));
        flags.extend(pattern.iter().map(|each| u8::from(each.1)));
        first.push(bytes.len() as u32);
    }
    let patterns = BytePatterns::new(&first, &bytes, &flags, text).unwrap();
    let mut padded = text.to_vec();
    padded.resize(text.len() + MARGIN, 1);
    let found = InstructionSet::available().map(|set| {
        let (mut candidates, mut pairs) = (vec![0; ROUND], Vec::new());
        patterns.run(set, &padded, text.len(), &mut candidates, &mut pairs, &mut NoPause);
        pairs
    });
    found
        .reduce(|one, other| {
            assert_eq!(one, other, "another set of instructions");
            other
        })
        .unwrap_or_default()
}

#[test]
fn an_unbound_variable_is_named_and_one_that_is_not_used_may_be_unbound() {
    let parts = [Part { start: 0, length: 3, variable: 2 }];
    let expander = Expander {
        templates: Templates::new(&[0, 1], &parts, b"let").unwrap(),
        texts: Texts::new(&[0, 1], b"x").unwrap(),
    };
    let mut bindings = [UNBOUND; VARIABLES];
    let unbound = expanded(&expander, &[Instance { template: 0, bindings }]).unwrap_err();
    let line = "instance 0: template 0 uses variable 2, which is unbound";
    assert_eq!(unbound.to_string(), line);
    bindings[2] = 0;
    assert_eq!(expanded(&expander, &[Instance { template: 0, bindings }]).unwrap(), b"letx");
}

#[test]
fn sizes_beyond_32_bits_are_an_error_and_no_overflow() {
    let parts = [Part { start: 0, length: u16::MAX, variable: NO_VARIABLE }; 64];
    let literals = vec![7; usize::from(u16::MAX)];
    let expander = Expander {
        templates: Templates::new(&[0, 64], &parts, &literals).unwrap(),
        texts: Texts::default(),
    };
    let instances = vec![Instance::default(); 1100];
    let mut offsets = vec![0; instances.len() + 1];
    let measured = expander.measure(&instances, &mut offsets, usize::MAX, &mut NoPause);
    let most = u64::from(u32::MAX);
    let Err(ExpansionError::TooLong { bytes, most: allowed }) = measured else {
        panic!("measured {measured:?}");
    };
    assert!(bytes > most && allowed == most);
}
