#include "native/quant.h"

bool quant_shape_is_valid(const struct quant_shape *s)
{
    return s->n_out > 0 && s->k > 0 && s->k <= QUANT_MAX_K && s->group > 0 &&
           (s->bits == 8 || s->bits == 4) &&
           (s->group == s->k || (s->group % 32 == 0 && s->k % s->group == 0));
}

bool quant_fits_4_bits(const int8_t *data, size_t n)
{
    uint8_t outside = 0;

    for (size_t i = 0; i < n; i++)
        outside |= (uint8_t)(data[i] + 8) & 0xf0;
    return outside == 0;
}

size_t quant_packed_bytes(const struct quant_shape *s)
{
    return ((size_t)s->n_out + QUANT_PANEL - 1) / QUANT_PANEL * quant_panel_bytes(s);
}

/* Four numbers along k, as bytes of a step. */
static uint32_t four_bytes(unsigned bits, const int8_t *data)
{
    uint32_t four;

    memcpy(&four, data, sizeof(four));
    return bits == 8 ? four ^ 0x80808080 : (four ^ 0x08080808) & 0x0f0f0f0f;
}

/* A step's numbers of one output. */
static void pack_step(unsigned bits, const int8_t *data, uint8_t *to)
{
    uint32_t bytes = four_bytes(bits, data);

    if (bits == 4)
        bytes |= four_bytes(bits, data + 4) << 4;
    memcpy(to, &bytes, sizeof(bytes));
}

/* n numbers of a group, to every sixteenth four bytes; returns their sum. */
static int32_t pack_numbers(unsigned bits, const int8_t *data, size_t n, uint8_t *to)
{
    size_t per_step = bits == 4 ? 8 : 4, i = 0;
    int8_t rest[8] = {0};
    int32_t sum = 0;

    for (; i + per_step <= n; i += per_step, to += 64)
        pack_step(bits, data + i, to);
    if (i < n) {
        memcpy(rest, data + i, n - i);
        pack_step(bits, rest, to);
    }
    for (i = 0; i < n; i++)
        sum += bits == 8 ? data[i] : ((data[i] ^ 8) & 15) - 8;
    return sum;
}

static void pack_panel(const struct quant_shape *s, const int8_t *data, const uint8_t *scale,
                       uint32_t n, uint8_t *panel)
{
    size_t n_groups = s->k / s->group, group_bytes = quant_group_bytes(s);

    if (n < QUANT_PANEL) { /* as 0 is packed */
        memset(panel, s->bits == 8 ? 0x80 : 0x88, quant_panel_bytes(s));
        memset(panel, 0, 64);
        for (size_t g = 0; g < n_groups; g++)
            memset(panel + 64 + g * group_bytes, 0, 64);
    }
    for (uint32_t o = 0; o < n; o++) {
        double sum = 0; /* its products are exact */
        float rounded;

        for (size_t g = 0; g < n_groups; g++) {
            uint8_t *group = panel + 64 + g * group_bytes;
            float by;

            memcpy(&by, scale + (o * n_groups + g) * sizeof(by), sizeof(by));
            memcpy(group + o * sizeof(by), &by, sizeof(by));
            sum += (double)by * pack_numbers(s->bits, data + (size_t)o * s->k + g * s->group,
                                             s->group, group + 64 + (size_t)o * 4);
        }
        rounded = (float)sum;
        memcpy(panel + o * sizeof(rounded), &rounded, sizeof(rounded));
    }
}

void quant_pack(const struct quant_shape *s, const void *data, const void *scale,
                uint32_t first, uint32_t n, void *packed)
{
    size_t n_groups = s->k / s->group;

    for (uint32_t o = first, end = first + n; o < end; o += QUANT_PANEL)
        pack_panel(s, (const int8_t *)data + (size_t)o * s->k,
                   (const uint8_t *)scale + o * n_groups * sizeof(float),
                   MIN(QUANT_PANEL, end - o),
                   (uint8_t *)packed + o / QUANT_PANEL * quant_panel_bytes(s));
}

void quant_unpack(const struct quant_shape *s, const void *packed, uint32_t o,
                  int8_t *ret_data, float *ret_scale)
{
    const uint8_t *group = (const uint8_t *)packed + o / QUANT_PANEL * quant_panel_bytes(s) + 64;

    o %= QUANT_PANEL;
    for (size_t g = 0; g < s->k / s->group; g++, group += quant_group_bytes(s)) {
        memcpy(&ret_scale[g], group + (size_t)o * 4, sizeof(*ret_scale));
        for (size_t i = 0; i < s->group; i++) {
            const uint8_t *steps = group + 64 + (size_t)o * 4 + i % 4;

            *ret_data++ = s->bits == 8 ? (int8_t)(steps[i / 4 * 64] - 128)
                          : i % 8 < 4  ? (int8_t)((steps[i / 8 * 64] & 15) - 8)
                                       : (int8_t)((steps[i / 8 * 64] >> 4) - 8);
        }
    }
}
