//! The undirected graph in compressed rows, its nodes renumbered by falling degree.

/// Both directions of every edge, in compressed sparse rows (CSR).
///
/// Inside, nodes are numbered by falling degree (ties by their own number), so hubs share cache
/// lines, nodes without edges come last, and the first neighbour of a node is its biggest one: the
/// one most likely to be in a frontier. Self-loops are dropped, repeated edges kept. Answers are
/// mapped back through `outer`.
pub struct Graph {
    /// Where the row of each node begins, and the number of arcs at the end: nodes + 1 entries.
    pub offsets: Vec<u32>,
    /// The rows, each rising; two arcs per edge.
    pub neighbours: Vec<u32>,
    /// The first neighbour of each connected node.
    pub biggest: Vec<u32>,
    /// Inner number of each node.
    pub inner: Vec<u32>,
    /// Own number of each inner node.
    pub outer: Vec<u32>,
}

impl Graph {
    pub fn nodes(&self) -> usize {
        self.outer.len()
    }

    /// Nodes with at least one edge; they are the first ones.
    pub fn connected(&self) -> usize {
        self.biggest.len()
    }

    /// Undirected edges.
    pub fn edges(&self) -> u64 {
        self.neighbours.len() as u64 / 2
    }

    #[inline]
    pub fn degree(&self, node: u32) -> u32 {
        self.offsets[node as usize + 1] - self.offsets[node as usize]
    }

    #[inline]
    pub fn row(&self, node: u32) -> &[u32] {
        let node = node as usize;
        &self.neighbours[self.offsets[node] as usize..self.offsets[node + 1] as usize]
    }

    /// Whether both are nodes with an edge between them, by bisection of the shorter row.
    pub fn has_edge(&self, one: u32, other: u32) -> bool {
        if one.max(other) as usize >= self.nodes() {
            return false;
        }
        let (low, high) =
            if self.degree(one) <= self.degree(other) { (one, other) } else { (other, one) };
        self.row(low).binary_search(&high).is_ok()
    }

    /// The rows in the nodes' own numbers, each rising: (offsets, neighbours).
    pub fn outer_rows(&self) -> (Vec<u32>, Vec<u32>) {
        let mut offsets = vec![0];
        let mut neighbours = Vec::with_capacity(self.neighbours.len());
        for &inner in &self.inner {
            let begin = neighbours.len();
            neighbours.extend(self.row(inner).iter().map(|&node| self.outer[node as usize]));
            neighbours[begin..].sort_unstable();
            offsets.push(neighbours.len() as u32);
        }
        (offsets, neighbours)
    }
}
