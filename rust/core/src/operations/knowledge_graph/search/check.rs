//! Checks of a search's answer that trust neither the codes nor the rows in memory.
//!
//! Every answer: the query is the request's; as many results as asked for (or as there were in the
//! lists looked into), distinct, sorted, each score recomputed from the vector's seed. Every exact
//! answer besides: a slice of `SLICE` vectors, another one each time, is compared with its seed and
//! must hold nothing better than the last place. One in `full_check_one_in`: all vectors scored in
//! float64 give the same answer, bit for bit.

use crate::operations::Pause;
use crate::random::philox;

use super::embeddings::{cosine, dot, norm};
use super::index::NOBODY;
use super::scan::{Slot, pause_vectors};
use super::top::{Found, Top};
use super::{Parameters, Search};

/// Vectors regenerated and scored with every exact answer, about 50 µs of work.
const SLICE: usize = 64;

/// Scratch of the checks.
pub struct Checker {
    row: Vec<f32>,
    stored: Vec<f32>,
    best: Top,
    one_in: u32,
}

impl Checker {
    pub fn new(parameters: &Parameters) -> Self {
        let dims = parameters.dims as usize;
        Self {
            row: vec![0.0; dims],
            stored: vec![0.0; dims],
            best: Top::new(parameters.top as usize),
            one_in: parameters.full_check_one_in,
        }
    }

    /// A row to write what an answer should have been asked.
    pub fn row(&mut self) -> &mut [f32] {
        &mut self.row
    }

    /// Whether this turn's answer is checked in full.
    pub fn is_full(&self, turn: u64) -> bool {
        draw(turn, 1) % u64::from(self.one_in) == 0
    }

    /// The cheap checks, those of an exact answer included where it is one.
    pub fn right(
        &mut self,
        search: &Search,
        slot: &Slot,
        exact: bool,
        turn: u64,
        pause: &mut dyn Pause,
    ) -> bool {
        let found = slot.top.found();
        let present = if exact { search.parameters.vectors as usize } else { slot.scanned };
        found.len() == present.min(search.parameters.top as usize)
            && found.windows(2).all(|pair| pair[0].before(&pair[1]))
            && distinct(found)
            && found.iter().enumerate().all(|(place, one)| {
                pause_at(place, search, pause);
                self.scored(search, slot, one)
            })
            && (!exact || self.slice_holds_none(search, slot, turn, pause))
    }

    fn scored(&mut self, search: &Search, slot: &Slot, one: &Found) -> bool {
        if one.id >= search.parameters.vectors {
            return false;
        }
        search.regenerate(one.id, &mut self.row);
        one.score == cosine(dot(&self.row, &slot.row), norm(&self.row), slot.norm)
    }

    /// A slice of this turn is as its seed says, and holds nothing that the answer lacks.
    fn slice_holds_none(
        &mut self,
        search: &Search,
        slot: &Slot,
        turn: u64,
        pause: &mut dyn Pause,
    ) -> bool {
        let index = &search.index;
        let places = index.ids.len();
        let start = (draw(turn, 0) % places as u64) as usize;
        (start..(start + SLICE).min(places)).filter(|place| index.ids[*place] != NOBODY).all(
            |place| {
                pause_at(place, search, pause);
                let id = index.ids[place];
                search.regenerate(id, &mut self.row);
                let same = index.vector(place, &mut self.stored) == self.row.as_slice();
                let score = cosine(dot(&self.row, &slot.row), norm(&self.row), slot.norm);
                same && self.belongs(slot, Found { id, score })
            },
        )
    }

    /// Whether `one` is in the answer or rightly not.
    fn belongs(&self, slot: &Slot, one: Found) -> bool {
        let found = slot.top.found();
        found.contains(&one) || found.last().is_some_and(|last| last.before(&one))
    }

    /// All vectors scored in float64 give the same answer.
    pub fn best_of_all(&mut self, search: &Search, slot: &Slot, pause: &mut dyn Pause) -> bool {
        let index = &search.index;
        self.best.clear();
        for (place, id) in index.ids.iter().enumerate().filter(|(_, id)| **id != NOBODY) {
            pause_at(place, search, pause);
            let score = index.score(place, &slot.row, slot.norm, &mut self.stored);
            if score >= self.best.floor() {
                self.best.offer(Found { id: *id, score });
            }
        }
        self.best.found() == slot.top.found()
    }
}

/// Pauses where enough vectors were scored since the last pause, one for each place.
fn pause_at(place: usize, search: &Search, pause: &mut dyn Pause) {
    if place % pause_vectors(search.index.dims) == 0 {
        pause.point();
    }
}

fn distinct(found: &[Found]) -> bool {
    found
        .iter()
        .enumerate()
        .all(|(place, one)| found[..place].iter().all(|other| other.id != one.id))
}

/// A number of this turn, unrelated to the next one's.
fn draw(turn: u64, purpose: u32) -> u64 {
    let words = philox([turn as u32, (turn >> 32) as u32, purpose, 0], [0x6b67, 0x0105]);
    u64::from(words[0]) | u64::from(words[1]) << 32
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::Counted;
    use super::super::tests::small;
    use super::super::{Parameters, Search, SearchKind};
    use crate::operations::Build;

    #[test]
    fn a_check_of_many_answers_pauses_between_them_and_candidates_between_rows() {
        let build = Build { seed: 11, threads: 2, progress: &|_, _| true };
        let search = Search::build(Parameters { dims: 1024, ..small() }, &build).unwrap();
        let mut operation = search.operation();
        let mut counted = Counted(0);
        operation.run(SearchKind::Batch, 1, &mut counted);
        let index = &search.index;
        let (members, chunks) = (operation.slots_mut().len(), index.lists.len() * 5 + 18);
        assert!(counted.0 > chunks + members / 8, "{}", counted.0);
        let mut counted = Counted(0);
        let verdict = operation.verify(&mut counted);
        assert_eq!((verdict.checked, verdict.violations), (members as u32, 0));
        // Of a slice of 64 vectors one in sixteen, of all vectors likewise.
        assert!(counted.0 > members * (1 + 3000 / 16), "{}", counted.0);
    }
}
