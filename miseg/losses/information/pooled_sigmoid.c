/* The loops of pooled_sigmoid.py, and that file says what they compute.

   A unit of work is a band of an image: the rows that one row of averages is taken from. Units are independent, and
   `share` of `shares` takes every shares-th one. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "exponential.h"

typedef struct {
    int64_t images, classes, height, width;
    int64_t of_image, of_class, of_row, of_column; /* the logits' strides, in numbers */
    int64_t factor, pad, rows, columns;            /* rows and columns of the averages */
} Sizes;

/* log(1 + e) for 0 <= e <= 1, to 1e-7 of its value: 2 atanh(e / (2 + e)). */
static inline float log1p_(float e) {
    float t = e / (2.0f + e), q = t * t;
    float p = 1.0f / 13;
    p = p * q + 1.0f / 11;
    p = p * q + 1.0f / 9;
    p = p * q + 1.0f / 7;
    p = p * q + 1.0f / 5;
    p = p * q + 1.0f / 3;
    return 2.0f * t * (p * q + 1.0f);
}

static int64_t bands(const Sizes *s) { return (s->height - 1 + s->pad) / s->factor + 1; }

static void band(const Sizes *s, int64_t unit, int64_t *image, int64_t *row, int64_t *first, int64_t *last) {
    *image = unit / bands(s);
    *row = unit % bands(s);
    int64_t start = *row * s->factor - s->pad, stop = start + s->factor;
    *first = start < 0 ? 0 : start;
    *last = stop > s->height ? s->height : stop;
}

static void mask_of(const int16_t *labels, int64_t width, float *mask) {
    for (int64_t j = 0; j < width; j++) mask[j] = labels[j] >= 0;
}

static void widened(const int16_t *labels, int64_t width, int32_t *wide) {
    for (int64_t j = 0; j < width; j++) wide[j] = labels[j];
}

static int any_ignored(const int16_t *labels, int64_t width) {
    int found = 0;
    for (int64_t j = 0; j < width; j++) found |= labels[j] < 0;
    return found;
}

/* A class's row with 0 where a pixel does not count: there may be a NaN or an infinity, and 0 times these is NaN. */
static const float *cleared(const float *row, const float *mask, int64_t width, float *memory) {
    for (int64_t j = 0; j < width; j++) memory[j] = mask[j] > 0 ? row[j] : 0.0f;
    return memory;
}

/* A row of every class, [classes, width], of logits that are laid out otherwise, such as channels last. */
static void side_by_side(const float *row, const Sizes *s, float *copy) {
    for (int64_t j = 0; j < s->width; j++)
        for (int64_t c = 0; c < s->classes; c++) copy[c * s->width + j] = row[j * s->of_column + c * s->of_class];
}

/* sums [images * bands]: cross-entropy in nats. pooled, truth [images, classes, rows, columns]. 1 if out of memory. */
int forward(const float *logits, const int16_t *labels, const Sizes *s, float floor, double *sums, float *pooled,
            float *truth, int64_t share, int64_t shares) {
    const int64_t classes = s->classes, width = s->width, columns = s->columns;
    float *mask = malloc(sizeof(float) * (3 * width + (2 * width + columns) * classes));
    if (!mask) return 1;
    int32_t *wide = (int32_t *)(mask + width);
    float *memory = mask + 2 * width, *copy = memory + width, *column_sums = copy + width * classes, *counts = column_sums + width * classes;
    const float area = 1.0f / (float)(s->factor * s->factor);
    for (int64_t unit = share; unit < s->images * bands(s); unit += shares) {
        int64_t image, row, first, last;
        band(s, unit, &image, &row, &first, &last);
        memset(column_sums, 0, sizeof(float) * width * classes);
        memset(counts, 0, sizeof(float) * columns * classes);
        double total = 0;
        for (int64_t i = first; i < last; i++) {
            const float *start = logits + image * s->of_image + i * s->of_row;
            const int16_t *label = labels + (image * s->height + i) * width;
            int64_t of_class = s->of_class;
            mask_of(label, width, mask);
            widened(label, width, wide);
            const int ignored = any_ignored(label, width);
            if (s->of_column != 1) {
                side_by_side(start, s, copy);
                start = copy;
                of_class = width;
            }
            for (int64_t c = 0; c < classes; c++) {
                const float *x = start + c * of_class;
                if (ignored) x = cleared(x, mask, width, memory);
                const int32_t class = (int32_t)c;
                float *sum_of_column = column_sums + c * width, sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t j = 0; j < width; j++) {
                    float e = exp_(x[j] < 0 ? x[j] : -x[j]), inverse = 1.0f / (1.0f + e);
                    float sigmoid = x[j] < 0 ? e * inverse : inverse;
                    float of_other = wide[j] == class ? -x[j] : x[j]; /* log(1 + e^x) - x = log(1 + e^-x) */
                    sum += mask[j] * ((of_other > 0 ? of_other : 0.0f) + log1p_(e));
                    sum_of_column[j] += mask[j] * sigmoid + floor;
                }
                total += sum;
            }
            for (int64_t j = 0, column = 0, next = s->factor - s->pad; j < width; j++) {
                if (j == next) {
                    column++;
                    next += s->factor;
                }
                if (label[j] >= 0 && column < columns) counts[label[j] * columns + column] += 1;
            }
        }
        sums[unit] = total;
        if (row >= s->rows) continue; /* what the last whole window leaves over */
        for (int64_t c = 0; c < classes; c++) {
            int64_t at = ((image * classes + c) * s->rows + row) * columns;
            for (int64_t k = 0; k < columns; k++) {
                int64_t from = k * s->factor - s->pad, to = from + s->factor;
                float sum = 0;
                for (int64_t j = from < 0 ? 0 : from; j < (to > width ? width : to); j++)
                    sum += column_sums[c * width + j];
                pooled[at + k] = sum * area;
                truth[at + k] = counts[c * columns + k] * area;
            }
        }
    }
    free(mask);
    return 0;
}

/* gradient, with its own strides: of_sum for the sum and, times the map's scale, of_pooled for the averages. 1 if out
   of memory. */
int backward(const float *logits, const int16_t *labels, const Sizes *s, const int64_t *strides, float of_sum,
             const float *of_pooled, const float *scale, float *gradient, int64_t share, int64_t shares) {
    const int64_t classes = s->classes, width = s->width, columns = s->columns;
    float *mask = malloc(sizeof(float) * width * (2 + 2 * classes));
    if (!mask) return 1;
    float *memory = mask + width, *slopes = memory + width, *copy = slopes + width * classes;
    const float area = 1.0f / (float)(s->factor * s->factor);
    for (int64_t unit = share; unit < s->images * bands(s); unit += shares) {
        int64_t image, row, first, last;
        band(s, unit, &image, &row, &first, &last);
        for (int64_t c = 0; c < classes; c++) {
            const float *u = of_pooled + ((image * classes + c) * s->rows + row) * columns;
            const float factor = area * scale[image * classes + c];
            float *slope = slopes + c * width;
            memset(slope, 0, sizeof(float) * width);
            for (int64_t k = 0; row < s->rows && k < columns; k++) {
                int64_t from = k * s->factor - s->pad, to = from + s->factor;
                for (int64_t j = from < 0 ? 0 : from; j < (to > width ? width : to); j++) slope[j] = u[k] * factor;
            }
        }
        for (int64_t i = first; i < last; i++) {
            const float *start = logits + image * s->of_image + i * s->of_row;
            float *end = gradient + image * strides[0] + i * strides[2];
            const int16_t *label = labels + (image * s->height + i) * width;
            mask_of(label, width, mask);
            const int ignored = any_ignored(label, width);
            int64_t of_class = s->of_class;
            if (s->of_column != 1) {
                side_by_side(start, s, copy);
                start = copy;
                of_class = width;
            }
            for (int64_t c = 0; c < classes; c++) {
                const float *x = start + c * of_class, *slope = slopes + c * width;
                if (ignored) x = cleared(x, mask, width, memory);
                float *out = strides[3] == 1 ? end + c * strides[1] : copy + c * width;
#pragma omp simd
                for (int64_t j = 0; j < width; j++) {
                    float e = exp_(x[j] < 0 ? x[j] : -x[j]), inverse = 1.0f / (1.0f + e);
                    float small = e * inverse; /* of sigmoid and 1 - sigmoid, both to full precision */
                    float sigmoid = x[j] < 0 ? small : inverse, rest = x[j] < 0 ? inverse : small;
                    out[j] = mask[j] * (sigmoid * (of_sum + slope[j] * rest));
                }
            }
            if (strides[3] != 1)
                for (int64_t j = 0; j < width; j++)
                    for (int64_t c = 0; c < classes; c++) end[j * strides[3] + c * strides[1]] = copy[c * width + j];
            for (int64_t j = 0; j < width; j++)
                if (label[j] >= 0) end[label[j] * strides[1] + j * strides[3]] -= of_sum;
        }
    }
    free(mask);
    return 0;
}
