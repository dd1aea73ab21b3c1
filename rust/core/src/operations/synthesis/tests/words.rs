//! Expansions, linearised trees and byte patterns: the answers of their definitions.

use proptest::prelude::*;

use crate::operations::NoPause;
use crate::operations::instructions::InstructionSet;
use crate::operations::synthesis::bytes::{BytePatterns, ROUND};
use crate::operations::synthesis::expansion::{
    Expander, ExpansionError, Instance, NO_VARIABLE, Part, STRIDE, Templates, Texts, UNBOUND,
    VARIABLES,
};
use crate::operations::synthesis::forest::{below, mixed};
use crate::operations::synthesis::patterns::pair;
use crate::operations::synthesis::sieve::MARGIN;
use crate::operations::synthesis::tile::{TOKENS, Tile};
use crate::operations::synthesis::tiles::TreeTemplates;

/// Templates and texts, and how many there are of each.
fn any_expander() -> impl Strategy<Value = (Expander, [u32; 2])> {
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
            let counts = [template_first.len() as u32 - 1, texts.len() as u32];
            let expander = Expander {
                templates: Templates::new(&template_first, &parts, &literals).unwrap(),
                texts: Texts::new(&first, &texts.concat()).unwrap(),
            };
            (expander, counts)
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
        (expander, [templates, texts]) in any_expander(),
        drawn in prop::collection::vec((0u32..180, prop::array::uniform4(0u32..180)), 0..40),
        missing in prop::bool::weighted(0.1),
        room in any::<prop::sample::Index>(),
    ) {
        let number = |drawn: u32, count: u32| if missing { drawn } else { drawn % count };
        let instance = |(template, bindings): (u32, [u32; VARIABLES])| Instance {
            template: number(template, templates),
            bindings: bindings.map(|text| number(text, texts)),
        };
        let instances: Vec<Instance> = drawn.into_iter().map(instance).collect();
        let mut expected = Vec::new();
        match expanded(&expander, &instances) {
            Ok(bytes) => {
                instances.iter().for_each(|each| expander.expand_plainly(each, &mut expected));
                prop_assert_eq!(&bytes, &expected);
                // One byte less than is needed is refused before anything is written.
                let most = room.index(bytes.len() + 1);
                let mut offsets = vec![0; instances.len() + 1];
                let refused = expander.measure(&instances, &mut offsets, most, &mut NoPause);
                prop_assert_eq!(refused.is_err(), most < bytes.len());
            }
            Err(ExpansionError::NoTemplate { instance, template }) => {
                prop_assert!(missing);
                prop_assert_eq!(instances[instance].template, template);
            }
            Err(ExpansionError::NoText { instance, variable, text }) => {
                prop_assert!(missing);
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
    fn many_templates_that_share_their_rarest_token_agree_as_the_definition_says(
        trees in prop::collection::vec(prop::collection::vec(1u8..4, TOKENS), 1..150),
        drawn in prop::collection::vec((0usize..TOKENS, 1u8..4, 0usize..TOKENS, 1u8..4), 40..90),
        rare in 0usize..TOKENS,
    ) {
        let (mut trees, mut drawn) = (trees, drawn);
        // A token of one place that one tree in four has, and so rarer than all others; one
        // template in eight demands nothing else. Where a tile has no tree, it has this token.
        trees.iter_mut().step_by(4).for_each(|tree| tree[rare] = 0);
        drawn.iter_mut().step_by(8).for_each(|each| (each.0, each.2) = (rare, rare));
        let mut expected = Vec::new();
        for (number, tree) in trees.iter().enumerate() {
            for (template, &(one, own, other, others)) in drawn.iter().enumerate() {
                let others_agree = (one == rare || tree[one] == own)
                    && (other == rare || other == one || tree[other] == others);
                if tree[rare] == 0 && others_agree {
                    expected.push(pair(number as u32, template as u32));
                }
            }
        }
        let (mut tokens, mut flags) = (Vec::new(), Vec::new());
        for (one, own, other, others) in drawn {
            let (mut row, mut demanded) = ([0; TOKENS], [0; TOKENS]);
            for (place, token) in [(other, others), (one, own), (rare, 0)] {
                (row[place], demanded[place]) = (token, 1 << (place % 8));
            }
            tokens.extend(row);
            flags.extend(demanded);
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

/// Patterns ready to be found; what is demanded has any flag but zero.
fn byte_patterns(text: &[u8], given: &[Demands]) -> Result<BytePatterns, String> {
    let (mut first, mut bytes, mut flags) = (vec![0], Vec::new(), Vec::new());
    for pattern in given {
        bytes.extend(pattern.iter().map(|each| each.0));
        flags.extend(pattern.iter().map(|each| u8::from(each.1) << (each.0 % 8)));
        first.push(bytes.len() as u32);
    }
    BytePatterns::new(&first, &bytes, &flags, text)
}

/// The occurrences by each set of instructions, which must be the same.
fn occurrences(text: &[u8], given: &[Demands]) -> Vec<u64> {
    let patterns = byte_patterns(text, given).unwrap();
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

/// Patterns cut from a text, the first of them short; half of them from about the end of a round.
fn cut_about_rounds(text: &[u8], count: usize, shortest: usize, is_wild: bool) -> Vec<Demands> {
    let pattern = |number: usize| {
        let length = if number == 0 { shortest } else { 12 + number % 21 };
        let start = match number % 2 {
            0 => ROUND - 48 + number % 60,
            _ => below(mixed(!number as u32), ROUND as u32) as usize,
        };
        let own = text[start..start + length].iter().enumerate();
        own.map(|(place, &byte)| (byte, !is_wild || place % (3 + number % 5) != 2)).collect()
    };
    (0..count).map(pattern).collect()
}

#[test]
fn byte_patterns_are_found_at_every_stride_and_across_the_ends_of_rounds() {
    let mut strides = Vec::new();
    // Short patterns forbid long strides; few letters make a look at a position dear.
    for letters in [3, 5, 6, 8, 12, 60, 200] {
        for (shortest, count, is_wild) in
            [(1, 60, true), (2, 60, true), (3, 200, true), (8, 60, true), (8, 60, false)]
        {
            let draw = |at: usize| below(mixed(at as u32), letters) as u8;
            let text: Vec<u8> = (0..ROUND + 99).map(draw).collect();
            let given = cut_about_rounds(&text, count, shortest, is_wild);
            strides.push(byte_patterns(&text, &given).unwrap().stride());
            assert_eq!(occurrences(&text, &given), plain_occurrences(&text, &given));
        }
    }
    strides.sort_unstable();
    strides.dedup();
    assert_eq!(strides, [1, 2, 4]);
}

#[test]
fn byte_patterns_without_bytes_and_of_more_than_32_are_refused() {
    let refused = |length: usize| byte_patterns(b"text", &[vec![(b't', true); length]]).err();
    assert_eq!([refused(1), refused(32)], [None, None]);
    assert_eq!(refused(0).as_deref(), Some("pattern 0 has 0 bytes, not 1 to 32"));
    assert_eq!(refused(33).as_deref(), Some("pattern 0 has 33 bytes, not 1 to 32"));
    let outside = BytePatterns::new(&[0, 5], b"four", &[1; 4], b"text").err();
    assert_eq!(outside.as_deref(), Some("pattern 0 lies outside the bytes"));
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
fn templates_and_texts_that_lie_outside_are_refused() {
    let part = Part { start: 0, length: 3, variable: 0 };
    let refused = |first: &[u32], parts: &[Part]| Templates::new(first, parts, b"let").err();
    assert_eq!(refused(&[0, 1], &[part]), None);
    let long = refused(&[0, 1], &[Part { length: 4, ..part }]);
    assert_eq!(long.as_deref(), Some("template 0: a literal lies beyond 3 bytes"));
    let late = refused(&[0, 1], &[Part { start: 1, ..part }]);
    assert_eq!(late.as_deref(), Some("template 0: a literal lies beyond 3 bytes"));
    let unknown = refused(&[0, 1, 2], &[part, Part { variable: VARIABLES as u8, ..part }]);
    assert_eq!(unknown.as_deref(), Some("template 1: there is no variable 4"));
    assert_eq!(refused(&[0, 255], &[part; 255]), None);
    let often = refused(&[0, 256], &[part; 256]);
    assert_eq!(often.as_deref(), Some("template 0: uses a variable more than 255 times"));
    let outside = refused(&[0, 2], &[part]);
    assert_eq!(outside.as_deref(), Some("template 0 lies outside the parts"));
    let texts = |first: &[u32]| Texts::new(first, b"text").err();
    assert_eq!(texts(&[0, 3, 3, 4]), None);
    assert_eq!(texts(&[0, 3, 2]).as_deref(), Some("must not be empty nor fall"));
    assert_eq!(texts(&[]).as_deref(), Some("must not be empty nor fall"));
    assert_eq!(texts(&[0, 5]).as_deref(), Some("lies beyond 4 bytes"));
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
