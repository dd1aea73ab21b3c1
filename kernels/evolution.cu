// The `evolution` component: a generation is one launch, which copies the best of the population
// before, breeds everybody else, and names the best of the new one in the block that ends last.
#include "evolution.cuh"

// Ranks that the best are named out of at once; half of them are the best so far.
constexpr u32 SORTED = 2048;

// What a generation is bred by. Rows hold `row` genes, whole groups of 64, of which the first
// `genome` count; the rest are 0.
struct Breeding {
    u32 population, genome, row, elites, judged;
};

// Judges an individual whose genes of this thread are in its row, and returns its fitness in all
// threads of the team; one that is not active reads nothing.
__device__ __forceinline__ f32 judge(const f32* row, const Breeding& plan, const f32* samples,
                                     u32 member, bool active) {
    if (plan.judged == MLP) return network_error(row, plan.genome, samples, member, active);
    f32 lanes[2] = {0.0f, 0.0f};
    for (u32 first = 0; active && first < plan.row; first += QUARTER) {
        const float2 genes = *reinterpret_cast<const float2*>(row + first + 2 * member);
        lanes[0] = __fadd_rn(lanes[0], term(genes.x, plan.judged));
        lanes[1] = __fadd_rn(lanes[1], term(genes.y, plan.judged));
    }
    return team_sum(lanes[0], lanes[1]);
}

// Enters an individual of a population in which anybody can be among the best.
__device__ __forceinline__ void enter(u32 individual, u32 population, f32 fitness, u64* ranks,
                                      u32* candidates, u32* candidate_count) {
    ranks[individual] = u64(ordered(fitness)) << 32 | individual;
    candidates[individual] = individual;
    if (individual == 0) *candidate_count = population;
}

// Makes the first population and judges it.
//
//   genes[i][g] = 5.12 * (2^-23 * (word >> 8) - 1)   of Philox's block (g, i, 0, 0)
//
// Work    per individual: 4 * row bytes and a rank of 8 bytes written; a Philox block and eight
//         multiplications per four genes, then those of the judging. Bound by writing.
// Launch  eight threads per individual: block = 256, any grid; the threads go on by strides.
// Needs   rows of whole groups of 64 genes, 16-byte aligned.
// Checked against genetics.initial and fitness_of: exact.
extern "C" __global__ void evolution_settle(u32 population, u32 genome, u32 row, u32 judged,
                                            u32 key0, u32 key1, const f32* samples, f32* genes,
                                            u64* ranks, u32* candidates, u32* candidate_count) {
    const Breeding plan = {population, genome, row, 0, judged};
    const u32 member = threadIdx.x % TEAM, teams = blockDim.x / TEAM;
    const u32 steps = (population + teams * gridDim.x - 1) / (teams * gridDim.x);
    for (u32 step = 0; step < steps; ++step) {
        const u32 individual = (step * gridDim.x + blockIdx.x) * teams + threadIdx.x / TEAM;
        const bool active = individual < population;
        f32* mine = genes + u64(active ? individual : 0) * row;
        for (u32 group = 0; active && group < row / GROUP; ++group) {
            // Line 2q + h of a group takes words 2h and 2h + 1 of its q-th eight blocks.
            for (u32 half = 0; half < 2; ++half) {
                const u32 block = group * 16 + half * 8 + member;
                const Words words = philox({block, individual, 0, 0}, key0, key1);
                const u32 drawn[4] = {words.x, words.y, words.z, words.w};
                for (u32 line = 0; line < 2; ++line) {
                    const u32 gene = group * GROUP + (2 * half + line) * QUARTER + 2 * member;
                    f32 values[2];
                    for (u32 turn = 0; turn < 2; ++turn) {
                        const f32 whole = __uint2float_rn(drawn[2 * line + turn] >> 8);
                        const f32 unit = __fsub_rn(__fmul_rn(whole, 0x1p-23f), 1.0f);
                        values[turn] = gene + turn < genome ? __fmul_rn(unit, BOUND) : 0.0f;
                    }
                    *reinterpret_cast<float2*>(mine + gene) = make_float2(values[0], values[1]);
                }
            }
        }
        __syncwarp();
        const f32 fitness = judge(mine, plan, samples, member, active);
        if (active && member == 0)
            enter(individual, population, fitness, ranks, candidates, candidate_count);
    }
}

// Judges rows that were given.
//
// Work    per individual: 4 * row bytes read, 12 written. Bound by reading.
// Launch  eight threads per individual: block = 256, any grid; the threads go on by strides.
// Needs   rows of whole groups of 64 genes, 16-byte aligned, 0 where no gene counts.
// Checked against genetics.fitness_of: exact.
extern "C" __global__ void evolution_judge(u32 population, u32 genome, u32 row, u32 judged,
                                           const f32* samples, const f32* genes, u64* ranks,
                                           u32* candidates, u32* candidate_count) {
    const Breeding plan = {population, genome, row, 0, judged};
    const u32 member = threadIdx.x % TEAM, teams = blockDim.x / TEAM;
    const u32 steps = (population + teams * gridDim.x - 1) / (teams * gridDim.x);
    for (u32 step = 0; step < steps; ++step) {
        const u32 individual = (step * gridDim.x + blockIdx.x) * teams + threadIdx.x / TEAM;
        const bool active = individual < population;
        const f32* mine = genes + u64(active ? individual : 0) * row;
        const f32 fitness = judge(mine, plan, samples, member, active);
        if (active && member == 0)
            enter(individual, population, fitness, ranks, candidates, candidate_count);
    }
}

// Names the best of a population, in order, out of those who can be among them: by one block, whose
// `kept` is shared memory.
__device__ __forceinline__ void name_leaders(u64* kept, u32 elites, const u64* ranks,
                                             const u32* candidates, u32 count, u64* leaders) {
    for (u32 place = threadIdx.x; place < SORTED; place += blockDim.x) kept[place] = ~u64(0);
    for (u32 first = 0; first < count; first += SORTED / 2) {
        __syncthreads();
        // The best so far stand in front; the other half takes the next candidates.
        for (u32 place = threadIdx.x; place < SORTED / 2; place += blockDim.x) {
            const u32 index = first + place;
            kept[SORTED / 2 + place] = index < count ? ranks[candidates[index]] : ~u64(0);
        }
        // Bitonic sort (Batcher, 1968).
        for (u32 run = 2; run <= SORTED; run *= 2)
            for (u32 apart = run / 2; apart > 0; apart /= 2) {
                __syncthreads();
                for (u32 pair = threadIdx.x; pair < SORTED / 2; pair += blockDim.x) {
                    const u32 low = pair / apart * apart * 2 + pair % apart, high = low + apart;
                    const u64 left = kept[low], right = kept[high];
                    if ((left > right) == ((low & run) == 0)) {
                        kept[low] = right;
                        kept[high] = left;
                    }
                }
            }
    }
    __syncthreads();
    for (u32 place = threadIdx.x; place < elites; place += blockDim.x) leaders[place] = kept[place];
}

// Names the best of a population that was settled or judged; breeding names those of its own.
//
//   leaders[e] = the candidate of the e-th smallest rank
//
// Work    per candidate: 12 bytes read. Bound by the sorting network.
// Launch  one block of 1024 threads, 16 KiB of shared memory.
// Needs   elites <= 1024 and no more than candidates; ranks are of different individuals.
// Checked against a stable sort by fitness: exact.
extern "C" __global__ void evolution_lead(u32 elites, const u64* ranks, const u32* candidates,
                                          const u32* candidate_count, u64* leaders) {
    __shared__ u64 kept[SORTED];
    name_leaders(kept, elites, ranks, candidates, *candidate_count, leaders);
}

// Breeds the generation after: leaders as they are, then children of two tournaments' winners.
//
//   child[g] = clip(parent[second[g]][g] + (mutates[g] ? sigma * N(0, 1) : 0), -5.12, 5.12)
//
// Work    per child and gene: 8 bytes read, 4 written, about 80 operations, of which an eighth of a
//         Philox block and 11 multiplications for the normal variates are two thirds; judging takes
//         1 multiplication (sphere), 9 (Rastrigin) or 24 (the network), the digest one. Bound by
//         arithmetic while the population is cached.
// Launch  eight threads per individual, `teams` of them a block: block = 8 * teams, any grid; the
//         threads go on by strides. Shared memory: 4 * (20 + teams * control words) bytes and not
//         less than 16 KiB, which the last block names the best in.
// Needs   block a multiple of 32; `control` words of a child: 2 * tournament, then of each of the
//         1 + bits layers a bit per gene, in whole Philox blocks. `sums` and `finished` are 0 and
//         the count of candidates is `elites`; the last block leaves those of the next launch so.
// Checked against genetics.next_generation and its digest: exact.
extern "C" __global__ void __launch_bounds__(256, 3)
    evolution_breed(u32 population, u32 genome, u32 row, u32 elites, u32 judged, u32 tournament,
                    u32 numerator, u32 bits, f32 sigma, u32 control_blocks, u32 control0,
                    u32 control1, u32 normal0, u32 normal1, u64 request, const u64* leaders,
                    const f32* samples, const f32* before, const u64* ranks_before,
                    u32* count_before, f32* after, u64* ranks_after, u32* candidates,
                    u32* candidate_count, u64* leaders_after, u32* sums, u32* next_sums,
                    u32* finished) {
    __shared__ u32 is_last;
    const Breeding plan = {population, genome, row, elites, judged};
    DYNAMIC_SHARED(u32, shared);
    const u32 member = threadIdx.x % TEAM, teams = blockDim.x / TEAM;
    u32* const control = shared + 20 + threadIdx.x / TEAM * control_blocks * 4;
    const u32 low = u32(request), high = u32(request >> 32);
    const u32 last_elite = u32(leaders[elites - 1] >> 32);
    const u32 steps = (population + teams * gridDim.x - 1) / (teams * gridDim.x);
    Digest digest;
    for (u32 step = 0; step < steps; ++step) {
        const u32 individual = (step * gridDim.x + blockIdx.x) * teams + threadIdx.x / TEAM;
        const bool active = individual < population, is_elite = individual < elites;
        const bool is_child = active && !is_elite;
        if (is_child)
            for (u32 block = member; block < control_blocks; block += TEAM) {
                const Words words = philox({block, individual, low, high}, control0, control1);
                reinterpret_cast<uint4*>(control)[block] =
                    make_uint4(words.x, words.y, words.z, words.w);
            }
        __syncwarp();
        u64 best[2] = {0, 0};
        if (active && is_elite) best[0] = best[1] = leaders[individual];
        if (is_child)
            for (u32 which = 0; which < 2; ++which) {
                best[which] = ~u64(0);
                for (u32 turn = 0; turn < tournament; ++turn) {
                    const u32 word = control[which * tournament + turn];
                    const u64 rank = ranks_before[scaled(word, population)];
                    best[which] = rank < best[which] ? rank : best[which];
                }
            }
        const f32* const parents[2] = {before + u64(u32(best[0])) * row,
                                       before + u64(u32(best[1])) * row};
        f32* const mine = after + u64(active ? individual : 0) * row;
        const u32* const masks = control + 2 * tournament;
        for (u32 group = 0; active && group < row / GROUP; ++group) {
            u32 second[2] = {0, 0}, mutates[2] = {0, 0};
            f32 moves[8] = {0, 0, 0, 0, 0, 0, 0, 0};
            if (is_child) {
                // Which genes come from the second parent, and which mutate: a threshold of `bits`
                // bits per gene, the complement of its layers, below the numerator.
                for (u32 half = 0; half < 2; ++half) {
                    const u32 word = 2 * group + half;
                    second[half] = masks[word];
                    u32 less = numerator >> bits ? FULL : 0, equal = FULL;
                    for (u32 bit = bits; bit-- > 0;) {
                        const u32 threshold = ~masks[(1 + bit) * (row / 32) + word];
                        const bool is_set = numerator >> bit & 1;
                        less |= is_set ? equal & ~threshold : 0;
                        equal &= is_set ? threshold : ~threshold;
                    }
                    mutates[half] = less;
                }
                const u32 block = group * TEAM + member;
                const Words words = philox({block, individual, low, high}, normal0, normal1);
                const u32 drawn[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
                for (u32 turn = 0; turn < 4; ++turn) {
                    const float2 pair = normal_pair(drawn[turn], sigma);
                    moves[4 * (turn / 2) + turn % 2] = pair.x;
                    moves[4 * (turn / 2) + 2 + turn % 2] = pair.y;
                }
            }
#pragma unroll
            for (u32 quarter = 0; quarter < 4; ++quarter) {
                const u32 gene = group * GROUP + quarter * QUARTER + 2 * member;
                const float2 mother = *reinterpret_cast<const float2*>(parents[0] + gene);
                const float2 father = *reinterpret_cast<const float2*>(parents[1] + gene);
                const f32 inherited[2][2] = {{mother.x, father.x}, {mother.y, father.y}};
                f32 values[2];
#pragma unroll
                for (u32 turn = 0; turn < 2; ++turn) {
                    const u32 bit = gene % WARP + turn;
                    const bool from_second = second[quarter / 2] >> bit & 1;
                    const bool moved = mutates[quarter / 2] >> bit & 1;
                    f32 value = from_second ? inherited[turn][1] : inherited[turn][0];
                    if (moved) value = __fadd_rn(value, moves[2 * quarter + turn]);
                    value = fminf(fmaxf(value, -BOUND), BOUND);
                    values[turn] = gene + turn < genome ? value : 0.0f;
                }
                *reinterpret_cast<float2*>(mine + gene) = make_float2(values[0], values[1]);
                digest.add(individual, gene / QUARTER, values[0], values[1]);
            }
        }
        __syncwarp();
        const f32 fitness = judge(mine, plan, samples, member, active);
        if (active && member == 0) {
            const u32 word = is_elite ? u32(best[0] >> 32) : ordered(fitness);
            ranks_after[individual] = u64(word) << 32 | individual;
            digest.add_rank(individual, row / QUARTER, word);
            if (is_elite) candidates[individual] = individual;
            // Of equal fitness the elite stands before.
            else if (word < last_elite) candidates[atomicAdd(candidate_count, 1u)] = individual;
        }
        // Judging has brought the warp together: nobody reads the choices any more.
    }
    // All have met in it; what is added to the sums after that no block reads in this launch.
    digest.publish(shared, sums);
    if (threadIdx.x == 0) {
        __threadfence();
        is_last = atomicAdd(finished, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    const u32 count = *candidate_count;
    name_leaders(reinterpret_cast<u64*>(shared), elites, ranks_after, candidates, count,
                 leaders_after);
    if (threadIdx.x < 17) next_sums[threadIdx.x] = 0;
    if (threadIdx.x == 0) {
        *finished = 0;
        *count_before = elites;
    }
}

// The digest of a population as it lies in memory: what a check compares with that of its breeding.
//
// Work    per individual: 4 * row + 8 bytes read. Bound by reading.
// Launch  eight threads per individual: block = 256, any grid; the threads go on by strides.
// Needs   `sums` are 0.
// Checked against genetics.digest: exact.
extern "C" __global__ void evolution_digest(u32 population, u32 row, const f32* genes,
                                            const u64* ranks, u32* sums) {
    __shared__ u32 shared[17];
    const u32 member = threadIdx.x % TEAM, teams = blockDim.x / TEAM;
    Digest digest;
    for (u32 individual = blockIdx.x * teams + threadIdx.x / TEAM; individual < population;
         individual += gridDim.x * teams) {
        const f32* mine = genes + u64(individual) * row;
        for (u32 first = 0; first < row; first += QUARTER) {
            const float2 pair = *reinterpret_cast<const float2*>(mine + first + 2 * member);
            digest.add(individual, first / QUARTER, pair.x, pair.y);
        }
        if (member == 0) digest.add_rank(individual, row / QUARTER, u32(ranks[individual] >> 32));
    }
    digest.publish(shared, sums);
}
