/*
 * asterisk-dialog: PCM arithmetic of the fork.
 *
 * Copyright (C) 2026, the asterisk-dialog authors
 *
 * This program is free software, distributed under the terms of
 * the GNU General Public License Version 2. See the LICENSE file
 * at the top of the source tree.
 */

/*! \file
 * \brief From captured cells to frames of 20 ms: resampling, gain, mixing by time.
 *
 * Pure: no clock, no socket, no Asterisk. All times are the cells' own.
 */

#ifndef FORK_AUDIO_H
#define FORK_AUDIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fork_ring.h"

#define FORK_RATE_HZ 8000
#define FORK_RATE_MAX_HZ 16000
#define FORK_FRAME_MS 20
#define FORK_FRAME_US 20000
/*! Longest frame, in samples: both channels of stereo. */
#define FORK_FRAME_MAX (2 * FORK_RATE_MAX_HZ / 50)

/*! When mixing, a direction that has been silent this long is not waited for. */
#define FORK_STALL_US 60000
/*! When mixing, one direction never runs ahead of the other by more than this. */
#define FORK_SKEW_FRAMES 5
/*! Samples a direction can hold; a pull after each push keeps it below. */
#define FORK_FIFO_SAMPLES ((FORK_SKEW_FRAMES + 4) * FORK_RATE_MAX_HZ / 50)
/*! Most samples that a cell becomes: from 8 to 16 kHz. */
#define FORK_RESAMPLED_MAX (2 * FORK_CELL_SAMPLES + 1)
/*! Gain in steps of 6 dB: -4 .. 4, as MixMonitor's v, V and W. */
#define FORK_GAIN_MAX 4

/*! \brief Windowed-sinc resampler from any rate from 8 kHz on to 8 or 16 kHz. Begins as zeros. */
struct fork_resampler {
	uint32_t rate_hz;   /*!< equal to out_hz: samples pass unchanged */
	uint32_t out_hz;
	unsigned int taps;
	unsigned int phases;
	unsigned int step;  /*!< input advance per output, in 1/phases of a sample */
	unsigned int phase;
	size_t held;        /*!< input samples kept for the next call */
	float *table;       /*!< phases × taps */
	float *history;     /*!< taps + FORK_CELL_SAMPLES */
};

/*!
 * \brief Resample up to FORK_CELL_SAMPLES samples.
 * \param out room for FORK_RESAMPLED_MAX samples
 * \return samples written to `out`
 */
size_t fork_resample(struct fork_resampler *r, const int16_t *in, size_t count,
	uint32_t rate_hz, uint32_t out_hz, int16_t *out);
void fork_resampler_free(struct fork_resampler *r);

/*! \brief Multiply by 2^steps, saturating. */
void fork_gain(int16_t *samples, size_t count, int steps);

struct fork_fifo {
	struct fork_resampler resampler;
	int gain;
	bool heard;           /*!< a cell has arrived */
	uint64_t last_us;     /*!< capture time of the newest cell */
	uint64_t taken;       /*!< samples that have left in frames, of all time */
	size_t count;
	int16_t samples[FORK_FIFO_SAMPLES];
};

/*! \brief What the frames are to be. */
struct fork_shape {
	bool read, write;     /*!< directions wanted */
	bool stereo;          /*!< both: left what is read, right what is written; else mixed */
	uint32_t rate_hz;     /*!< 8000 or 16000 */
	int read_gain, write_gain;
};

/*! \brief Turns cells of one direction, or of both, into frames. */
struct fork_mixer {
	bool wanted[FORK_DIRECTIONS];
	bool stereo;
	uint32_t rate_hz;
	size_t frame;         /*!< samples of a direction in a frame */
	struct fork_fifo fifo[FORK_DIRECTIONS];
};

void fork_mixer_init(struct fork_mixer *m, const struct fork_shape *shape);
void fork_mixer_free(struct fork_mixer *m);

/*! \brief Samples in a frame, of all channels. */
static inline size_t fork_mixer_samples(const struct fork_mixer *m)
{
	return m->stereo ? 2 * m->frame : m->frame;
}

/*! \brief Add a cell; pull until false before the next one. */
void fork_mixer_push(struct fork_mixer *m, const struct fork_cell *cell);

/*!
 * \brief Take the next frame, if it is due.
 *
 * One direction alone: each 20 ms are a frame. Both: a frame is due when both have 20 ms, or
 * one has and the other has stalled (FORK_STALL_US) or lags by more than FORK_SKEW_FRAMES;
 * what the other has of it is taken, the rest of it is silence.
 *
 * \param now_us the newest capture time known, or the clock when no cell has come for a while
 * \param frame room for fork_mixer_samples()
 */
bool fork_mixer_pull(struct fork_mixer *m, uint64_t now_us, int16_t *frame);

/*! \brief At the end: the next frame of what is left, filled up with silence. */
bool fork_mixer_drain(struct fork_mixer *m, int16_t *frame);

/*! \brief Whether a whole frame is held back, waiting for the other direction. */
bool fork_mixer_waits(const struct fork_mixer *m);

#endif /* FORK_AUDIO_H */
