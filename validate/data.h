/* Seeded inputs of an attention block. A row depends on the seed, the tensor, the block, the head
 * and the token alone, so that every rank makes its own part of the same tensors, whatever the
 * plan. */
#ifndef VALIDATE_DATA_H
#define VALIDATE_DATA_H

#include <stdint.h>

enum data_tensor { DATA_Q, DATA_K, DATA_V, DATA_DO, DATA_TENSORS };

/* `width` numbers of mean 0 and variance 1 (uniform), as bf16. */
void data_row(uint64_t seed, enum data_tensor tensor, int block, int head, int64_t token, int width,
              uint16_t *out);

/* Low-rank features: cosines and sines of the token's place at `rank`/2 wavelengths, and noise.
 * Their products fall off with distance and come back far away, so that neighbouring query groups
 * share keys, as groups of video tokens do. The noise of queries and keys differs (`of_query`). */
void data_low_rank(uint64_t seed, int block, int head, int64_t token, int64_t tokens, int rank,
                   int of_query, uint16_t *out);

#endif
