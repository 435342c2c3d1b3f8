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

/* Pass band up to 0.45 of the lower rate (3.6 or 7.2 kHz); 16 zero crossings a side give about
 * 60 dB. */
#define PASS_BAND 0.45
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
static void resampler_setup(struct fork_resampler *r, uint32_t rate_hz, uint32_t out_hz)
{
	unsigned int common = gcd(rate_hz, out_hz);

	fork_resampler_free(r);
	r->rate_hz = rate_hz;
	r->out_hz = out_hz;
	if (rate_hz == out_hz) {
		return;
	}
	r->phases = out_hz / common;
	r->step = rate_hz / common;
	r->taps = TAPS_PER_OUTPUT * ((rate_hz + out_hz - 1) / out_hz) + 1;
	r->table = malloc((size_t) r->phases * r->taps * sizeof(*r->table));
	r->history = calloc(r->taps + FORK_CELL_SAMPLES, sizeof(*r->history));
	if (!r->table || !r->history) {
		free(r->table);
		r->table = NULL;
		return;
	}
	for (unsigned int p = 0; p < r->phases; p++) {
		fill_phase(r->table + (size_t) p * r->taps, r->taps, (double) p / r->phases,
			PASS_BAND * (rate_hz < out_hz ? rate_hz : out_hz) / rate_hz);
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
	uint32_t rate_hz, uint32_t out_hz, int16_t *out)
{
	size_t pos, made = 0;

	if (count > FORK_CELL_SAMPLES || !rate_hz) {
		return 0;
	}
	if (r->rate_hz != rate_hz || r->out_hz != out_hz) {
		resampler_setup(r, rate_hz, out_hz);
	}
	if (rate_hz == out_hz) {
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
	for (pos = 0; pos + r->taps <= r->held && made < FORK_RESAMPLED_MAX;) {
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

void fork_mixer_init(struct fork_mixer *m, const struct fork_shape *shape)
{
	memset(m, 0, sizeof(*m));
	m->wanted[FORK_READ] = shape->read;
	m->wanted[FORK_WRITE] = shape->write;
	m->stereo = shape->stereo;
	m->rate_hz = shape->rate_hz;
	m->frame = shape->rate_hz / 50;
	m->fifo[FORK_READ].gain = shape->read_gain;
	m->fifo[FORK_WRITE].gain = shape->write_gain;
}

void fork_mixer_free(struct fork_mixer *m)
{
	fork_resampler_free(&m->fifo[FORK_READ].resampler);
	fork_resampler_free(&m->fifo[FORK_WRITE].resampler);
}

void fork_mixer_push(struct fork_mixer *m, const struct fork_cell *cell)
{
	static const int16_t silence[FORK_CELL_SAMPLES];
	struct fork_fifo *fifo = &m->fifo[cell->direction & 1];
	int16_t *end = fifo->samples + fifo->count;
	size_t count;

	/* Who pulls after each push always leaves as much room. */
	if (FORK_FIFO_SAMPLES - fifo->count < FORK_RESAMPLED_MAX) {
		return;
	}
	count = fork_resample(&fifo->resampler, cell->silent ? silence : cell->samples,
		cell->count, cell->rate_hz, m->rate_hz, end);
	fork_gain(end, count, fifo->gain);
	fifo->count += count;
	fifo->last_us = cell->time_us;
	fifo->heard = true;
}

/*! \brief Samples of the FIFO that go into the next frame. */
static size_t due_samples(const struct fork_mixer *m, enum fork_direction direction)
{
	size_t count = m->fifo[direction].count;

	return count < m->frame ? count : m->frame;
}

/*! \brief The samples are in the frame. */
static void fifo_took(struct fork_fifo *fifo, size_t count)
{
	fifo->taken += count;
	fifo->count -= count;
	memmove(fifo->samples, fifo->samples + count, fifo->count * sizeof(*fifo->samples));
}

/*! \brief Add to what is in the frame. */
static void mix(int16_t *frame, const int16_t *samples, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int sum = frame[i] + samples[i];

		frame[i] = (int16_t) (sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum);
	}
}

bool fork_mixer_drain(struct fork_mixer *m, int16_t *frame)
{
	struct fork_fifo *in = &m->fifo[FORK_READ], *out = &m->fifo[FORK_WRITE];
	size_t reads = due_samples(m, FORK_READ), writes = due_samples(m, FORK_WRITE);

	if (!reads && !writes) {
		return false;
	}
	if (m->stereo) {
		for (size_t i = 0; i < m->frame; i++) {
			frame[2 * i] = i < reads ? in->samples[i] : 0;
			frame[2 * i + 1] = i < writes ? out->samples[i] : 0;
		}
	} else {
		memcpy(frame, in->samples, reads * sizeof(*frame));
		memset(frame + reads, 0, (m->frame - reads) * sizeof(*frame));
		mix(frame, out->samples, writes);
	}
	fifo_took(in, reads);
	fifo_took(out, writes);
	return true;
}

bool fork_mixer_waits(const struct fork_mixer *m)
{
	return m->fifo[FORK_READ].count >= m->frame || m->fifo[FORK_WRITE].count >= m->frame;
}

/*! \brief Whether `fifo` has a frame that must not wait for `other` any longer. */
static bool due_alone(const struct fork_mixer *m, enum fork_direction which, uint64_t now_us)
{
	const struct fork_fifo *fifo = &m->fifo[which], *other = &m->fifo[!which];

	if (fifo->count < m->frame) {
		return false;
	}
	return !m->wanted[!which] || !other->heard || fifo->count > FORK_SKEW_FRAMES * m->frame
		|| now_us > other->last_us + FORK_STALL_US;
}

bool fork_mixer_pull(struct fork_mixer *m, uint64_t now_us, int16_t *frame)
{
	if ((m->fifo[FORK_READ].count >= m->frame && m->fifo[FORK_WRITE].count >= m->frame)
		|| due_alone(m, FORK_READ, now_us) || due_alone(m, FORK_WRITE, now_us)) {
		return fork_mixer_drain(m, frame);
	}
	return false;
}
