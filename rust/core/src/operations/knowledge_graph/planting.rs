//! Damage to a worker's last answer, which its check has to see.

use super::super::Fault;
use super::batch::NO_PATH;
use super::bfs::{Reached, is_set};
use super::keys::mix;
use super::lookup::MISSING;
use super::worker::{Answer, Worker};

impl Worker {
    /// Damages the answer of the last operation, each time at another place; false where it holds
    /// nothing that could be damaged so.
    pub fn damage(&mut self, fault: Fault) -> bool {
        self.planted += 1;
        let draw = mix(self.planted);
        match self.answer {
            Answer::None => false,
            Answer::Search => self.search.damage(fault, draw),
            Answer::Lookup { .. } => self.damage_lookups(fault, draw),
            Answer::Path { from, to, length } => self.damage_path(fault, draw, (from, to), length),
            Answer::Tree { root, reached } => self.damage_tree(fault, draw, root, reached),
            Answer::Distances => self.damage_distances(fault, draw),
        }
    }

    /// A bit of a node or a digest; a hit said to be a miss; an answer given to the next key too.
    fn damage_lookups(&mut self, fault: Fault, draw: u64) -> bool {
        let count = self.nodes.len();
        let place = (draw >> 32) as usize % count;
        match fault {
            Fault::FlippedBit if draw % 2 == 0 => self.nodes[place] ^= 1 << (draw >> 1 & 31),
            Fault::FlippedBit => self.digests[place] ^= 1 << (draw >> 1 & 63),
            Fault::LostResult => {
                let Some(hit) = self.nodes.iter().position(|&node| node != MISSING) else {
                    return false;
                };
                (self.nodes[hit], self.digests[hit]) = (MISSING, 0);
            }
            Fault::DoubledResult => {
                let next = (place + 1) % count;
                let is_same = self.nodes[next] == self.nodes[place];
                (self.nodes[next], self.digests[next]) = (self.nodes[place], self.digests[place]);
                return !is_same;
            }
        }
        true
    }

    /// A bit of an end; a node left out, or a short path said not to exist; a node visited twice.
    fn damage_path(
        &mut self,
        fault: Fault,
        draw: u64,
        (from, to): (u32, u32),
        length: Option<usize>,
    ) -> bool {
        let path = &mut self.scratch.queue;
        let (Some(length), true) = (length, from != to) else { return false };
        let length = match fault {
            Fault::FlippedBit => {
                let end = if draw % 2 == 0 { 0 } else { length - 1 };
                path[end] ^= 1 << (draw >> 1 & 31);
                Some(length)
            }
            Fault::LostResult if length == 2 => None,
            Fault::LostResult => {
                path.copy_within(2..length, 1);
                Some(length - 1)
            }
            Fault::DoubledResult if length == path.len() => return false,
            Fault::DoubledResult => {
                path.copy_within(1..length, 2);
                path[1] = path[0];
                Some(length + 1)
            }
        };
        self.answer = Answer::Path { from, to, length };
        true
    }

    /// A bit of a parent or of the arcs counted; a node that was not visited; one counted twice.
    fn damage_tree(&mut self, fault: Fault, draw: u64, root: u32, mut reached: Reached) -> bool {
        let connected = self.shared.graph.connected() as u32;
        let start = (draw >> 32) as u32 % connected;
        let below = (start..connected).chain(0..start);
        let mut visited = below.filter(|&node| is_set(&self.scratch.visited, node) && node != root);
        let Some(node) = visited.next() else { return false };
        match fault {
            Fault::FlippedBit if draw % 4 == 0 => reached.arcs ^= 1 << (draw >> 2 & 63),
            Fault::FlippedBit => self.scratch.parents[node as usize] ^= 1 << (draw >> 2 & 31),
            Fault::LostResult => self.scratch.visited[node as usize / 64] &= !(1 << (node % 64)),
            Fault::DoubledResult => reached.nodes += 1,
        }
        self.answer = Answer::Tree { root, reached };
        true
    }

    /// A bit of a distance; a path said not to exist; a distance given to the next pair too.
    fn damage_distances(&mut self, fault: Fault, draw: u64) -> bool {
        let lane = (draw >> 32) as usize % self.distances.len();
        match fault {
            Fault::FlippedBit => self.distances[lane] ^= 1 << (draw & 31),
            Fault::LostResult => {
                let Some(found) = self.distances.iter_mut().find(|hops| **hops != NO_PATH) else {
                    return false;
                };
                *found = NO_PATH;
            }
            Fault::DoubledResult => {
                let Some(place) = self.distances.windows(2).position(|two| two[0] != two[1]) else {
                    return false;
                };
                self.distances[place + 1] = self.distances[place];
            }
        }
        true
    }
}
