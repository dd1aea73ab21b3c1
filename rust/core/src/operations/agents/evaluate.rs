//! Operations on given swarms, to be held against the reference: arrays in, arrays out.
//!
//! A swarm is its slots' fields, `order` (live slots, the oldest first) and `clock` (steps, ticks,
//! births owed as two's complement).

use crate::operations::{Array, Arrays, BuildError};

use super::Shared;
use super::agent::{ENERGY_MAX, SPEED_MAX, STOPPED};
use super::process::PATIENCE;
use super::solitary::mixed;
use super::swarm::Swarm;
use super::tile::{GENERATION_MAX, LANES, MESSAGE, Tile, place};

const STEPS: usize = 0;
const TICKS: usize = 1;
const OWED: usize = 2;

pub fn evaluate(shared: &Shared, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
    if op == "process" {
        return process(shared, single(inputs, "key")?);
    }
    let mut swarm = read(shared, inputs)?;
    let batch = shared.parameters.batch;
    let mut ids = Vec::new();
    match op {
        "spawn" => {
            if !swarm.spawn(single(inputs, "key")?, batch, &mut ids) {
                return Err(refuse("order", "leaves too few slots for a batch".to_owned()));
            }
        }
        "destroy" => swarm.destroy(single(inputs, "key")?, batch, false, &mut ids),
        "destroy_oldest" => swarm.destroy(single(inputs, "key")?, batch, true, &mut ids),
        "drain" => swarm.drain(),
        "step" => drop(swarm.step()),
        "tick" => drop(swarm.tick()),
        _ => return Err(refuse("op", format!("there is no op `{op}`"))),
    }
    Ok(write(&swarm, ids))
}

fn refuse(key: &'static str, problem: String) -> BuildError {
    BuildError::Value { key, problem }
}

fn process(shared: &Shared, key: u64) -> Result<Arrays, BuildError> {
    let failed = |error: &std::io::Error| refuse("process", error.to_string());
    let program = shared.program.as_ref().map_err(failed)?;
    let process = program.start(key, shared.parameters.process_steps);
    let report = process.and_then(|process| process.report(PATIENCE, &mut || {}));
    let words = report.map_err(|error| failed(&error))?;
    Ok(Arrays::from([("report".to_owned(), Array::U64(words.to_vec()))]))
}

fn single(inputs: &Arrays, key: &'static str) -> Result<u64, BuildError> {
    match inputs.get(key) {
        Some(Array::U64(values)) if values.len() == 1 => Ok(values[0]),
        _ => Err(refuse(key, "is missing or not one u64".to_owned())),
    }
}

/// Makes the readers of one type of array.
macro_rules! reader {
    ($name:ident, $kind:ident, $element:ty) => {
        fn $name<'a>(
            inputs: &'a Arrays,
            key: &'static str,
            length: Option<usize>,
        ) -> Result<&'a [$element], BuildError> {
            match inputs.get(key) {
                Some(Array::$kind(values))
                    if length.is_none_or(|length| length == values.len()) =>
                {
                    Ok(values)
                }
                _ => {
                    let kind = stringify!($element);
                    let length = length.map_or(String::new(), |length| format!("{length} "));
                    Err(refuse(key, format!("is missing or not an array of {length}{kind}")))
                }
            }
        }
    };
}
reader!(words, U32, u32);
reader!(longs, U64, u64);
reader!(numbers, I32, i32);

fn read(shared: &Shared, inputs: &Arrays) -> Result<Swarm, BuildError> {
    let seed = single(inputs, "seed")?;
    if seed != shared.seed {
        return Err(refuse("seed", format!("the component was built for seed {}", shared.seed)));
    }
    let slots = shared.parameters.slots();
    let mut swarm = Swarm::new(slots, shared.parameters.band(), seed, 0, shared.kernels);
    for slot in 0..slots as u32 {
        let (index, lane) = place(slot);
        let wrap = swarm.grid.wrap();
        read_slot(inputs, slot as usize, slots, (&mut swarm.tiles[index], lane), wrap)?;
    }
    let clock = longs(inputs, "clock", Some(3))?;
    (swarm.ledger.steps, swarm.ledger.ticks) = (clock[STEPS], clock[TICKS]);
    swarm.owed = clock[OWED] as i64;
    let order = words(inputs, "order", None)?;
    let mut seen = vec![false; slots];
    for &slot in order {
        match seen.get_mut(slot as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(refuse("order", format!("slot {slot} is unknown or named twice"))),
        }
    }
    list(&mut swarm, order)?;
    Ok(swarm)
}

/// Lists the live slots in the order of birth, and leaves those vacant that may be used.
fn list(swarm: &mut Swarm, order: &[u32]) -> Result<(), BuildError> {
    for (rank, &slot) in order.iter().enumerate() {
        let (index, lane) = place(slot);
        let tile = &mut swarm.tiles[index];
        if tile.state[lane] == STOPPED {
            return Err(refuse("order", format!("the agent in slot {slot} is stopped")));
        }
        tile.turn[lane] = rank as u32;
        swarm.list[rank] = slot;
        swarm.occupied[slot as usize / 64] |= 1 << (slot % 64);
        swarm.ledger.births = swarm.ledger.births.wrapping_add(mixed(swarm.id(slot)));
    }
    swarm.listed = 0..order.len();
    for slot in 0..swarm.slots() {
        let (index, lane) = place(slot as u32);
        let usable = swarm.tiles[index].generation[lane] < GENERATION_MAX;
        if !usable || swarm.is_live(slot as u32) {
            swarm.vacant[slot / 64] &= !(1 << (slot % 64));
        }
    }
    swarm.ledger.live = order.len() as u64;
    swarm.ledger.spawned = order.len() as u64;
    let stopped = swarm.tiles.iter().flat_map(|tile| tile.state).filter(|&state| state == STOPPED);
    if stopped.count() + order.len() != swarm.slots() {
        return Err(refuse("order", "does not name every agent that is not stopped".to_owned()));
    }
    Ok(())
}

fn read_slot(
    inputs: &Arrays,
    slot: usize,
    slots: usize,
    (tile, lane): (&mut Tile, usize),
    wrap: u32,
) -> Result<(), BuildError> {
    let word = |key| words(inputs, key, Some(slots)).map(|words| words[slot]);
    let number = |key| numbers(inputs, key, Some(slots)).map(|numbers| numbers[slot]);
    let long = |key| longs(inputs, key, Some(slots)).map(|longs| longs[slot]);
    (tile.x[lane], tile.y[lane]) = (word("x")?, word("y")?);
    (tile.velocity_x[lane], tile.velocity_y[lane]) = (number("velocity_x")?, number("velocity_y")?);
    (tile.energy[lane], tile.state[lane]) = (number("energy")?, word("state")?);
    (tile.ticks[lane], tile.since[lane]) = (word("ticks")?, word("since")?);
    tile.heard[lane] = word("heard")?;
    (tile.generation[lane], tile.born[lane]) = (long("generation")?, long("born")?);
    let rng = words(inputs, "rng", Some(4 * slots))?;
    for (place, words) in tile.rng.iter_mut().enumerate() {
        words[lane] = rng[4 * slot + place];
    }
    for (key, inbox) in ["inbox_even", "inbox_odd"].into_iter().zip(&mut tile.inbox) {
        inbox[lane] = long(key)?;
        if inbox[lane] % MESSAGE >= MESSAGE / 4 || inbox[lane] / MESSAGE >= MESSAGE >> 18 {
            return Err(refuse(key, "holds more messages than agents can send".to_owned()));
        }
    }
    let speed = -SPEED_MAX..=SPEED_MAX;
    let sound = [
        ("x", tile.x[lane] <= wrap),
        ("y", tile.y[lane] <= wrap),
        ("velocity_x", speed.contains(&tile.velocity_x[lane])),
        ("velocity_y", speed.contains(&tile.velocity_y[lane])),
        ("energy", (0..=ENERGY_MAX).contains(&tile.energy[lane])),
        ("state", tile.state[lane] <= STOPPED),
        ("generation", tile.generation[lane] <= GENERATION_MAX),
    ];
    match sound.into_iter().find(|(_, sound)| !sound) {
        Some((key, _)) => Err(refuse(key, format!("is out of bounds in slot {slot}"))),
        None => Ok(()),
    }
}

fn write(swarm: &Swarm, ids: Vec<u64>) -> Arrays {
    let words =
        |field: fn(&Tile) -> [u32; LANES]| Array::U32(swarm.tiles.iter().flat_map(field).collect());
    let numbers =
        |field: fn(&Tile) -> [i32; LANES]| Array::I32(swarm.tiles.iter().flat_map(field).collect());
    let longs =
        |field: fn(&Tile) -> [u64; LANES]| Array::U64(swarm.tiles.iter().flat_map(field).collect());
    let rng = swarm
        .tiles
        .iter()
        .flat_map(|tile| (0..LANES).flat_map(move |lane| tile.rng.map(|words| words[lane])));
    let order = swarm.by_age().collect();
    let clock = vec![swarm.ledger.steps, swarm.ledger.ticks, swarm.owed as u64];
    let named = [
        ("x", words(|tile| tile.x)),
        ("y", words(|tile| tile.y)),
        ("velocity_x", numbers(|tile| tile.velocity_x)),
        ("velocity_y", numbers(|tile| tile.velocity_y)),
        ("energy", numbers(|tile| tile.energy)),
        ("state", words(|tile| tile.state)),
        ("ticks", words(|tile| tile.ticks)),
        ("since", words(|tile| tile.since)),
        ("heard", words(|tile| tile.heard)),
        ("generation", longs(|tile| tile.generation)),
        ("born", longs(|tile| tile.born)),
        ("rng", Array::U32(rng.collect())),
        ("inbox_even", longs(|tile| tile.inbox[0])),
        ("inbox_odd", longs(|tile| tile.inbox[1])),
        ("order", Array::U32(order)),
        ("clock", Array::U64(clock)),
        ("ids", Array::U64(ids)),
    ];
    named.into_iter().map(|(name, array)| (name.to_owned(), array)).collect()
}
