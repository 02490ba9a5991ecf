/* e^x for x <= 0, to 1e-7 of its value: the polynomial of Cephes' expf. The C library's own is not vectorised without
   -ffast-math, which would also give NaN up. */

#include <stdint.h>
#include <string.h>

static inline float exp_(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    float n = (x * 1.44269504f + shift) - shift;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return (p * r * r + r + 1.0f) * power;
}
