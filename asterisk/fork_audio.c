/*
 * asterisk-dialog: PCM arithmetic of the fork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

#include "fork_audio.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pass band up to 3.6 kHz; 16 zero crossings a side of the output's rate give about 60 dB. */
#define CUTOFF_HZ 3600.0
#define TAPS_PER_OUTPUT 32

static int16_t saturate(float value)
{
	if (value >= 32767.0f) {
		return 32767;
	}
	if (value <= -32768.0f) {
		return -32768;
	}
	return (int16_t) lrintf(value);
}

static unsigned int gcd(unsigned int a, unsigned int b)
{
	while (b) {
		unsigned int rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/*! \brief One phase of the filter: low pass, Hann window, unity gain for a constant. */
static void fill_phase(float *row, unsigned int taps, double offset, double cutoff)
{
	double centre = (taps - 1) / 2.0 + offset;
	double sum = 0;

	for (unsigned int k = 0; k < taps; k++) {
		double t = k - centre;
		double window = 0.5 + 0.5 * cos(2 * M_PI * t / (taps + 1));
		double sinc = fabs(t) < 1e-9 ? 2 * cutoff : sin(2 * M_PI * cutoff * t) / (M_PI * t);

		row[k] = (float) (window * sinc);
		sum += row[k];
	}
	for (unsigned int k = 0; k < taps; k++) {
		row[k] = (float) (row[k] / sum);
	}
}

void fork_resampler_free(struct fork_resampler *r)
{
	free(r->table);
	free(r->history);
	memset(r, 0, sizeof(*r));
}

/*! \brief Prepare for a rate. Without memory the rate stays unusable and gives silence. */
static void resampler_setup(struct fork_resampler *r, uint32_t rate_hz)
{
	unsigned int common = gcd(rate_hz, FORK_RATE_HZ);

	fork_resampler_free(r);
	r->rate_hz = rate_hz;
	if (rate_hz == FORK_RATE_HZ) {
		return;
	}
	r->phases = FORK_RATE_HZ / common;
	r->step = rate_hz / common;
	r->taps = TAPS_PER_OUTPUT * ((rate_hz + FORK_RATE_HZ - 1) / FORK_RATE_HZ) + 1;
	r->table = malloc((size_t) r->phases * r->taps * sizeof(*r->table));
	r->history = calloc(r->taps + FORK_CELL_SAMPLES, sizeof(*r->history));
	if (!r->table || !r->history) {
		free(r->table);
		r->table = NULL;
		return;
	}
	for (unsigned int p = 0; p < r->phases; p++) {
		fill_phase(r->table + (size_t) p * r->taps, r->taps, (double) p / r->phases,
			CUTOFF_HZ / rate_hz);
	}
	/* Half a filter of silence in front: the first output is the first input. */
	r->held = r->taps / 2;
}

static float filter(const float *row, const float *x, unsigned int taps)
{
	float sum = 0;

	for (unsigned int k = 0; k < taps; k++) {
		sum += row[k] * x[k];
	}
	return sum;
}

size_t fork_resample(struct fork_resampler *r, const int16_t *in, size_t count,
	uint32_t rate_hz, int16_t *out)
{
	size_t pos, made = 0;

	if (count > FORK_CELL_SAMPLES || !rate_hz) {
		return 0;
	}
	if (r->rate_hz != rate_hz) {
		resampler_setup(r, rate_hz);
	}
	if (rate_hz == FORK_RATE_HZ) {
		memcpy(out, in, count * sizeof(*out));
		return count;
	}
	if (!r->table) {
		return 0;
	}
	for (size_t i = 0; i < count; i++) {
		r->history[r->held + i] = in[i];
	}
	r->held += count;
	for (pos = 0; pos + r->taps <= r->held && made <= FORK_CELL_SAMPLES;) {
		out[made++] = saturate(filter(r->table + (size_t) r->phase * r->taps,
			r->history + pos, r->taps));
		r->phase += r->step;
		pos += r->phase / r->phases;
		r->phase %= r->phases;
	}
	/* A step is shorter than the filter, so `pos` is never beyond what has arrived. */
	r->held -= pos;
	memmove(r->history, r->history + pos, r->held * sizeof(*r->history));
	return made;
}

void fork_gain(int16_t *samples, size_t count, int steps)
{
	float factor = ldexpf(1.0f, steps);

	if (!steps) {
		return;
	}
	for (size_t i = 0; i < count; i++) {
		samples[i] = saturate(samples[i] * factor);
	}
}

void fork_mixer_init(struct fork_mixer *m, bool read, bool write, int read_gain, int write_gain)
{
	memset(m, 0, sizeof(*m));
	m->wanted[FORK_READ] = read;
	m->wanted[FORK_WRITE] = write;
	m->fifo[FORK_READ].gain = read_gain;
	m->fifo[FORK_WRITE].gain = write_gain;
}

void fork_mixer_free(struct fork_mixer *m)
{
	fork_resampler_free(&m->fifo[FORK_READ].resampler);
	fork_resampler_free(&m->fifo[FORK_WRITE].resampler);
}

void fork_mixer_push(struct fork_mixer *m, const struct fork_cell *cell)
{
	struct fork_fifo *fifo = &m->fifo[cell->direction & 1];
	int16_t silence[FORK_CELL_SAMPLES] = { 0 };
	int16_t made[FORK_CELL_SAMPLES + 1];
	size_t count;

	count = fork_resample(&fifo->resampler, cell->silent ? silence : cell->samples,
		cell->count, cell->rate_hz, made);
	fork_gain(made, count, fifo->gain);
	if (count > FORK_FIFO_SAMPLES - fifo->count) {
		count = FORK_FIFO_SAMPLES - fifo->count;
	}
	memcpy(fifo->samples + fifo->count, made, count * sizeof(*made));
	fifo->count += count;
	fifo->last_us = cell->time_us;
	fifo->heard = true;
}

/*! \brief Mix up to one frame out of the FIFO. */
static void fifo_mix(struct fork_fifo *fifo, int16_t frame[FORK_FRAME_SAMPLES])
{
	size_t count = fifo->count < FORK_FRAME_SAMPLES ? fifo->count : FORK_FRAME_SAMPLES;

	for (size_t i = 0; i < count; i++) {
		frame[i] = saturate((float) frame[i] + fifo->samples[i]);
	}
	fifo->count -= count;
	memmove(fifo->samples, fifo->samples + count, fifo->count * sizeof(*fifo->samples));
}

bool fork_mixer_drain(struct fork_mixer *m, int16_t frame[FORK_FRAME_SAMPLES])
{
	if (!m->fifo[FORK_READ].count && !m->fifo[FORK_WRITE].count) {
		return false;
	}
	memset(frame, 0, FORK_FRAME_BYTES);
	fifo_mix(&m->fifo[FORK_READ], frame);
	fifo_mix(&m->fifo[FORK_WRITE], frame);
	return true;
}

bool fork_mixer_waits(const struct fork_mixer *m)
{
	return m->fifo[FORK_READ].count >= FORK_FRAME_SAMPLES
		|| m->fifo[FORK_WRITE].count >= FORK_FRAME_SAMPLES;
}

/*! \brief Whether `fifo` has a frame that must not wait for `other` any longer. */
static bool due_alone(const struct fork_fifo *fifo, const struct fork_fifo *other,
	bool other_wanted, uint64_t now_us)
{
	if (fifo->count < FORK_FRAME_SAMPLES) {
		return false;
	}
	return !other_wanted || !other->heard || fifo->count > FORK_SKEW_SAMPLES
		|| now_us > other->last_us + FORK_STALL_US;
}

bool fork_mixer_pull(struct fork_mixer *m, uint64_t now_us, int16_t frame[FORK_FRAME_SAMPLES])
{
	const struct fork_fifo *in = &m->fifo[FORK_READ];
	const struct fork_fifo *out = &m->fifo[FORK_WRITE];

	if ((in->count >= FORK_FRAME_SAMPLES && out->count >= FORK_FRAME_SAMPLES)
		|| due_alone(in, out, m->wanted[FORK_WRITE], now_us)
		|| due_alone(out, in, m->wanted[FORK_READ], now_us)) {
		return fork_mixer_drain(m, frame);
	}
	return false;
}
