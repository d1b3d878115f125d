// The kernels of kernels.py in C: the same loops, which a C compiler turns into better vector code. OpenMP is torch's own,
// already in the process: a second pool of threads would wait for the first, which spins.
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

#define TILE 16
#define AREA (TILE * TILE)
#define GROUP 16
#define LOG2E 1.4426950408889634f
#define EXTENT 3.33f
#define MARGIN 0.3f
#define ALPHA_MIN (1.0f / 255.0f)
#define ALPHA_MAX 0.999f
#define T_STOP 1e-4f
#define ALIGNED __attribute__((aligned(64)))

// 2^p for p in [-60, 0]: Chebyshev fit of degree 5 on (-1, 0], times the power of two set in the exponent bits
static inline float exp2_(float p) {
    int n = (int)p;
    float f = p - (float)n;
    float y = 0.00920626f + f * 0.00094719f;
    y = 0.24017435f + f * (0.05529137f + f * y);
    y = 0.99999988f + f * (0.69314206f + f * y);
    union { int i; float f; } power = {.i = (n + 127) << 23};
    return y * power.f;
}

static inline int lower(int a, int b) { return a < b ? a : b; }
static inline int higher(int a, int b) { return a > b ? a : b; }

static inline float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// view (4, 4); camera = fx, fy, cx, cy, width, height, near, far, eps2d; key = depth, 0 where not drawn
void project(const float *means, const float *quats, const float *scales, const float *opacities, int count,
             const float *view, const float *camera, float *G, float *key) {
    float fx = camera[0], fy = camera[1], cx = camera[2], cy = camera[3], width = camera[4], height = camera[5];
    float mx = MARGIN * 0.5f * width / fx, my = MARGIN * 0.5f * height / fy, eps = camera[8];
#pragma omp parallel for
    for (int i = 0; i < count; i++) {
        const float *m = means + 3 * (int64_t)i, *q = quats + 4 * (int64_t)i, *s = scales + 3 * (int64_t)i;
        float o = opacities[i], at[3], J[2][3], U[2][3];
        for (int r = 0; r < 3; r++) {  // in double, so that what is nearer never comes out farther
            const float *v = view + 4 * r;
            at[r] = (float)((double)v[0] * m[0] + (double)v[1] * m[1] + (double)v[2] * m[2] + v[3]);
        }
        key[i] = 0.0f;
        if (!(at[2] > camera[6] && at[2] < camera[7] && o >= ALPHA_MIN)) continue;
        float iz = 1.0f / at[2], tx = at[0] * iz, ty = at[1] * iz;
        float bx = -clamp(tx, -cx / fx - mx, (width - cx) / fx + mx);
        float by = -clamp(ty, -cy / fy - my, (height - cy) / fy + my);
        for (int c = 0; c < 3; c++) {
            J[0][c] = fx * iz * (view[c] + bx * view[8 + c]);
            J[1][c] = fy * iz * (view[4 + c] + by * view[8 + c]);
        }
        float square = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
        float unit = 1.0f / sqrtf(square > 1e-24f ? square : 1e-24f);
        float w = q[0] * unit, x = q[1] * unit, y = q[2] * unit, z = q[3] * unit;
        float R[3][3] = {
            {1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)},
            {2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)},
            {2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)},
        };
        for (int a = 0; a < 2; a++)
            for (int c = 0; c < 3; c++) U[a][c] = s[c] * (J[a][0] * R[0][c] + J[a][1] * R[1][c] + J[a][2] * R[2][c]);
        float sxx = U[0][0] * U[0][0] + U[0][1] * U[0][1] + U[0][2] * U[0][2] + eps;
        float sxy = U[0][0] * U[1][0] + U[0][1] * U[1][1] + U[0][2] * U[1][2];
        float syy = U[1][0] * U[1][0] + U[1][1] * U[1][1] + U[1][2] * U[1][2] + eps;
        float det = sxx * syy - sxy * sxy;
        if (det <= 0) continue;
        float ratio = o / ALPHA_MIN, sigmas = sqrtf(2 * logf(ratio > 1 ? ratio : 1));
        sigmas = sigmas < EXTENT ? sigmas : EXTENT;
        float px = fx * tx + cx, py = fy * ty + cy, rx = sigmas * sqrtf(sxx), ry = sigmas * sqrtf(syy);
        if (px + rx <= 0 || py + ry <= 0 || px - rx >= width || py - ry >= height) continue;
        float half = -0.5f * LOG2E / det, ellipse[8] = {px, py, half * syy, -2 * half * sxy, half * sxx, o, rx, ry};
        memcpy(G + 8 * (int64_t)i, ellipse, sizeof ellipse);
        key[i] = at[2];
    }
}

// Count (ids NULL) or list the Gaussians of every tile in depth order; a thread takes the tiles of its own rows.
// first (tiles): counts go out, or the next free place in ids comes in.
void bin(const float *G, const int64_t *order, int count, int tiles_x, int tiles_y, int64_t *first, int32_t *ids) {
#pragma omp parallel
    {
        int threads = omp_get_num_threads(), thread = omp_get_thread_num();
        int top = thread * tiles_y / threads, bottom = (thread + 1) * tiles_y / threads;
        for (int k = 0; k < count; k++) {
            const float *g = G + 8 * order[k];
            int y0 = higher(top, (int)((g[1] - g[7]) / TILE)), y1 = lower(bottom, (int)((g[1] + g[7]) / TILE) + 1);
            int x0 = higher(0, (int)((g[0] - g[6]) / TILE)), x1 = lower(tiles_x, (int)((g[0] + g[6]) / TILE) + 1);
            for (int y = y0; y < y1; y++)
                for (int64_t *place = first + y * tiles_x + x0; place < first + y * tiles_x + x1; place++) {
                    if (ids) ids[*place] = (int32_t)order[k];
                    ++*place;
                }
        }
    }
}

void forward(const float *G, const float *features, const int64_t *off, const int32_t *ids, int tiles, int tiles_x,
             int width, int height, float *image, float *light, int64_t *last) {
#pragma omp parallel for schedule(dynamic)
    for (int tile = 0; tile < tiles; tile++) {
        int x0 = tile % tiles_x * TILE, y0 = tile / tiles_x * TILE;
        int w = lower(TILE, width - x0), h = lower(TILE, height - y0);
        float T[AREA] ALIGNED, live[AREA] ALIGNED, t[4][AREA] ALIGNED;
        memset(t, 0, sizeof t);
        for (int i = 0; i < AREA; i++) T[i] = live[i] = 1.0f;
        int64_t k = off[tile], end = off[tile + 1];
        while (k < end) {
            int64_t stop = k + GROUP < end ? k + GROUP : end;
            for (int64_t i = k; i < stop; i++) {
                const float *g = G + 8 * (int64_t)ids[i], *f = features + 4 * (int64_t)ids[i];
                float mx = g[0] - x0 - 0.5f, my = g[1] - y0 - 0.5f, A = g[2], B = g[3], C = g[4], o = g[5], ry = g[7];
                int top = higher(0, (int)ceilf(my - ry)), bottom = lower(h, (int)floorf(my + ry) + 1);
                for (int r = top; r < bottom; r++) {
                    float dy = r - my, c0 = C * dy * dy, c1 = B * dy;
                    int row = r * TILE;
#pragma omp simd simdlen(16)
                    for (int lane = 0; lane < TILE; lane++) {
                        int j = row + lane;
                        float dx = lane - mx, p = c0 + dx * (c1 + A * dx);
                        p = p < -60.0f ? -60.0f : p > 0.0f ? 0.0f : p;
                        float a = o * exp2_(p);
                        a = a > ALPHA_MAX ? ALPHA_MAX : a;
                        a = a < ALPHA_MIN ? 0.0f : a * live[j];
                        float before = T[j], after = before * (1.0f - a);
                        int ok = after > T_STOP;
                        float weight = ok ? a * before : 0.0f;
                        live[j] = ok ? live[j] : 0.0f;
                        T[j] = ok ? after : before;
                        t[0][j] += weight * f[0];
                        t[1][j] += weight * f[1];
                        t[2][j] += weight * f[2];
                        t[3][j] += weight * f[3];
                    }
                }
            }
            k = stop;
            float most = 0.0f;
            for (int r = 0; r < h; r++)
                for (int lane = 0; lane < w; lane++) most = live[r * TILE + lane] > most ? 1.0f : most;
            if (most == 0.0f) break;
        }
        last[tile] = k;
        for (int r = 0; r < h; r++)
            for (int lane = 0; lane < w; lane++) {
                int64_t pixel = (int64_t)(y0 + r) * width + x0 + lane;
                light[pixel] = T[r * TILE + lane];
                for (int c = 0; c < 4; c++) image[4 * pixel + c] = t[c][r * TILE + lane];
            }
    }
}

static void backward_tiles(const float *G, const float *features, const int64_t *off, const int32_t *ids, int tiles,
                           int tiles_x, int width, int height, int first, int step, const float *image,
                           const float *light, const int64_t *last, const float *d_image, const float *d_light,
                           float *sums) {
    for (int tile = first; tile < tiles; tile += step) {
        int x0 = tile % tiles_x * TILE, y0 = tile / tiles_x * TILE;
        int w = lower(TILE, width - x0), h = lower(TILE, height - y0);
        float T[AREA] ALIGNED, live[AREA] ALIGNED, rest[AREA] ALIGNED, d[4][AREA] ALIGNED;
        memset(live, 0, sizeof live), memset(rest, 0, sizeof rest), memset(d, 0, sizeof d);
        for (int i = 0; i < AREA; i++) T[i] = 1.0f;
        for (int r = 0; r < h; r++)
            for (int lane = 0; lane < w; lane++) {
                int64_t pixel = (int64_t)(y0 + r) * width + x0 + lane;
                int j = r * TILE + lane;
                live[j] = 1.0f;
                rest[j] = d_light[pixel] * light[pixel];
                for (int c = 0; c < 4; c++) {
                    d[c][j] = d_image[4 * pixel + c];
                    rest[j] += d[c][j] * image[4 * pixel + c];
                }
            }
        for (int64_t i = off[tile]; i < last[tile]; i++) {
            const float *g = G + 8 * (int64_t)ids[i], *f = features + 4 * (int64_t)ids[i];
            float *out = sums + 10 * (int64_t)ids[i];
            float mx = g[0] - x0 - 0.5f, my = g[1] - y0 - 0.5f, A = g[2], B = g[3], C = g[4], o = g[5], ry = g[7];
            int top = higher(0, (int)ceilf(my - ry)), bottom = lower(h, (int)floorf(my + ry) + 1);
            float s[6][TILE] ALIGNED, share[4][TILE] ALIGNED;
            memset(s, 0, sizeof s), memset(share, 0, sizeof share);
            for (int r = top; r < bottom; r++) {
                float dy = r - my, c0 = C * dy * dy, c1 = B * dy;
                int row = r * TILE;
#pragma omp simd simdlen(16)
                for (int lane = 0; lane < TILE; lane++) {
                    int j = row + lane;
                    float dx = lane - mx, p = c0 + dx * (c1 + A * dx);
                    p = p < -60.0f ? -60.0f : p > 0.0f ? 0.0f : p;
                    float raw = o * exp2_(p), a = raw > ALPHA_MAX ? ALPHA_MAX : raw;
                    a = a < ALPHA_MIN ? 0.0f : a;
                    a *= live[j];
                    float before = T[j], after = before * (1.0f - a), ok = after > T_STOP ? 1.0f : 0.0f;
                    float weight = ok * a * before;
                    live[j] *= ok;
                    T[j] = before - weight;
                    float v = f[0] * d[0][j] + f[1] * d[1][j] + f[2] * d[2][j] + f[3] * d[3][j];
                    float left = rest[j] - weight * v;
                    rest[j] = left;
                    float slope = a * (before * v - left / (1.0f - a));
                    slope *= ok * (raw <= ALPHA_MAX ? 1.0f : 0.0f);  // a clamped alpha does not move
                    s[0][lane] += slope;
                    s[1][lane] += slope * dx;
                    s[2][lane] += slope * dy;
                    s[3][lane] += slope * dx * dx;
                    s[4][lane] += slope * dx * dy;
                    s[5][lane] += slope * dy * dy;
                    share[0][lane] += weight * d[0][j];
                    share[1][lane] += weight * d[1][j];
                    share[2][lane] += weight * d[2][j];
                    share[3][lane] += weight * d[3][j];
                }
            }
            for (int k = 0; k < 6; k++)
                for (int lane = 0; lane < TILE; lane++) out[k] += s[k][lane];
            for (int c = 0; c < 4; c++)
                for (int lane = 0; lane < TILE; lane++) out[6 + c] += share[c][lane];
        }
    }
}

// sums (threads, N, 10): moments of dL/dlog(alpha), then dL/dfeature; see _backward in kernels.py
void backward(const float *G, const float *features, const int64_t *off, const int32_t *ids, int count, int tiles,
              int tiles_x, int width, int height, const float *image, const float *light, const int64_t *last,
              const float *d_image, const float *d_light, float *sums, int threads) {
#pragma omp parallel num_threads(threads)
    backward_tiles(G, features, off, ids, tiles, tiles_x, width, height, omp_get_thread_num(), omp_get_num_threads(),
                   image, light, last, d_image, d_light, sums + 10 * (int64_t)count * omp_get_thread_num());
}
