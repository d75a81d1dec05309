/* Models as diffusers writes them: the config.json of a transformer. */
#ifndef MODEL_DIT_DIFFUSERS_H
#define MODEL_DIT_DIFFUSERS_H

#include "model/dit.h"

/* Whether the document is such a config: it has `_class_name`. */
bool dit_is_diffusers(const struct cfg *map);

/* The model that the class builds from it. Keys that are absent or null have the defaults of the
 * class's constructor, as in diffusers; what the config does not hold (text length, the VAE's
 * strides) is what that class's pipeline has. Weights are counted from the shape, within 1% of the
 * class's own. ERR_INPUT at the class's place when it is none of the known ones. */
const struct dit_model *dit_of_diffusers(const struct cfg *map, struct arena *a, struct err *e);

#endif
