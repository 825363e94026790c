/*
 * The dock's end of the reference dock link, version 1, for a small board. docs/dock-link.md is the protocol,
 * docs/dock-firmware.md says how to put this on a board.
 *
 * One file, C99, no heap, no interrupt, no libc beyond <string.h>. A board implements the eight functions of
 * `struct ivma_board`, calls ivma_dock_start() once and ivma_dock_poll() at least once a millisecond while awake.
 * Its own file takes the declarations alone:
 *
 *     #define IVMA_DOCK_INTERFACE
 *     #include "ivma_dock.c"
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef IVMA_DOCK_H
#define IVMA_DOCK_H

#include <stddef.h>
#include <stdint.h>

enum {
    IVMA_KEY_SIZE = 32,
    IVMA_SERIAL_SIZE = 12,
    IVMA_VEHICLE_SIZE = 17,
    IVMA_MODEL_SIZE = 32,
    IVMA_NAKS_IN_A_SECOND = 5, /* that have no tag */
    IVMA_RECORD_SIZE = 55, /* paired, version, vehicle id, key, crc: what the board keeps over power-off */
    IVMA_FRAME_SIZE = 221  /* the longest frame on the wire, without its closing zero */
};

enum { IVMA_SEATED = 1, IVMA_MATED = 2, IVMA_LOCKED = 4, IVMA_KL15 = 8 };
enum { IVMA_LATCH = 1, IVMA_LED = 2, IVMA_BUZZER = 4, IVMA_HOLD = 8, IVMA_SUPPLY = 16 };
enum {
    IVMA_FAULT_SUPPLY_LOW = 1,
    IVMA_FAULT_SUPPLY_HIGH = 2,
    IVMA_FAULT_OVER_CURRENT = 4,
    IVMA_FAULT_TOO_HOT = 8,
    IVMA_FAULT_LATCH = 16,
    IVMA_FAULT_DEAD_MAN = 32,
    IVMA_FAULT_LINK = 64
};
enum { IVMA_NO_UNSIGNED = 0xFFFF, IVMA_NO_SIGNED = 0x7FFF }; /* "no measurement" */

/* What the board measures at this moment, contacts debounced. */
struct ivma_inputs {
    uint8_t bits, known;       /* IVMA_SEATED ... IVMA_KL15; a bit that is not known says nothing */
    uint8_t service;           /* the service contact is closed: pairing and tests are allowed */
    uint8_t faults;            /* of the first four, those that the board detects */
    uint16_t vehicle_mv;       /* IVMA_NO_UNSIGNED if not measured */
    uint16_t supply_mv;        /* likewise */
    int16_t current_ma;        /* IVMA_NO_SIGNED if not measured */
    int16_t temperature_dc;    /* 0.1 degrees C; likewise */
};

/* What a board implements. `self` is handed back as it was given. None may block. */
struct ivma_board {
    void *self;
    uint32_t (*now_ms)(void *self);                                 /* never goes back, wraps at 2^32 */
    size_t (*read)(void *self, uint8_t *bytes, size_t room);        /* what has come, 0 if nothing */
    int (*write)(void *self, const uint8_t *bytes, size_t count);   /* the whole frame or nothing; 1 if taken */
    void (*read_inputs)(void *self, struct ivma_inputs *inputs);
    void (*set_outputs)(void *self, uint8_t outputs);               /* called on change */
    int (*load)(void *self, uint8_t record[IVMA_RECORD_SIZE]);      /* 1 if there was a record */
    int (*save)(void *self, const uint8_t record[IVMA_RECORD_SIZE]);/* 1 once it would survive a power cut */
    /* A number greater than any that it ever returned on this board, stored before it returns: raise it at each
       start. 0 if it could not be stored: the dock then proves nothing, for a nonce might repeat. */
    uint32_t (*count_start)(void *self);
};

struct ivma_identity {
    uint8_t serial[IVMA_SERIAL_SIZE]; /* filled up with zeros */
    uint8_t firmware_major, firmware_minor;
    const char *model;                /* UTF-8, at most 32 bytes are sent */
};

/* Why bytes or frames were dropped; the first check that fails counts. */
enum ivma_drop {
    IVMA_DROP_COBS,
    IVMA_DROP_LENGTH,
    IVMA_DROP_CRC,
    IVMA_DROP_VERSION,
    IVMA_DROP_FLAGS,
    IVMA_DROP_TYPE,
    IVMA_DROP_TRAILER,
    IVMA_DROP_TAG,
    IVMA_DROP_COUNTER,
    IVMA_DROP_MISDIRECTED, /* a frame for a tablet */
    IVMA_DROP_UNSENT,      /* ours, that the board did not take */
    IVMA_DROPS
};

struct ivma_session {
    uint8_t open;
    uint8_t key[32];
    uint32_t heard, said; /* the last counter of either direction */
    uint32_t since_ms;
};

/* All state of one dock. The members are the implementation's. */
struct ivma_dock {
    const struct ivma_board *board;
    const struct ivma_identity *identity;
    struct ivma_inputs inputs;
    struct ivma_session current, pending;
    uint8_t paired, floor_version, key[IVMA_KEY_SIZE], vehicle[IVMA_VEHICLE_SIZE];
    uint8_t reset_cause, sequence, outputs, driven;
    uint8_t executed, executed_type, executed_sequence;
    uint8_t lease_runs, dead, hold_ends, cut, latch_moves, link_errors, nak_next;
    uint32_t started_ms, now_ms, lease_from_ms, lease_ms, dead_since_ms, cut_at_ms, latch_since_ms;
    uint32_t nak_ms[IVMA_NAKS_IN_A_SECOND];
    uint32_t start_count, proof_count, status_count, status_at_ms;
    uint8_t told_bits, told_known;
    uint16_t told_faults, told_mv, lowest_mv;
    uint32_t sum_mv, samples_mv;
    uint16_t fill;
    uint8_t overlong, frame[IVMA_FRAME_SIZE];
    uint32_t dropped[IVMA_DROPS];
    uint32_t executions; /* commands carried out, for tests */
};

/* Begins after a reset. `outputs` is what the pins drive already: latch and supply stay as they are. */
void ivma_dock_start(struct ivma_dock *dock, const struct ivma_board *board, const struct ivma_identity *identity,
                     uint8_t reset_cause, uint8_t outputs);
/* Reads the board and the wire, decides, writes. */
void ivma_dock_poll(struct ivma_dock *dock);
/* For how long nothing is due, if no byte comes and no input changes; a board may sleep meanwhile. */
uint32_t ivma_dock_idle_ms(const struct ivma_dock *dock);

/* The primitives, so that a board's self-test can check them against published values. */
void ivma_hmac_sha256(const uint8_t *key, size_t key_size, const uint8_t *data, size_t size, uint8_t out[32]);
void ivma_hkdf_sha256(const uint8_t *key, size_t key_size, const uint8_t *salt, size_t salt_size,
                      const uint8_t *info, size_t info_size, uint8_t out[32]);
void ivma_sha256(const uint8_t *data, size_t size, uint8_t out[32]);
uint32_t ivma_crc32(const uint8_t *data, size_t size);
size_t ivma_cobs_encode(const uint8_t *data, size_t size, uint8_t *out);     /* out: size + 1 + size / 254 */
int ivma_cobs_decode(uint8_t *data, size_t size);                            /* in place; the new size or -1 */

#endif /* IVMA_DOCK_H */

#ifndef IVMA_DOCK_INTERFACE

#include <string.h>

enum { VERSION = 1, HEADER = 4, TRAILER = 12, CRC = 4, PAYLOAD = 200, TAG = 8, MAC = 16, NONCE = 16, DOCK_NONCE = 8 };
enum { ACK_WANTED = 1, AUTHENTICATED = 2 };
enum { TO_DOCK = 0, TO_TABLET = 1 };
enum {
    HELLO = 0x01, CHALLENGE, LEASE, OUTPUTS, POWER_CUT_IN, PING, PAIR, UNPAIR,
    IDENT = 0x81, PROOF, STATUS, ACK, NAK, PONG
};
enum { NAK_TYPE = 1, NAK_LENGTH, NAK_TAG, NAK_REFUSED, NAK_NOT_AUTHENTICATED };
enum { CUT_NONE, CUT_PLANNED, CUT_OFF, CUT_DONE };

/* Milliseconds, all from docs/dock-link.md but those marked ours. */
#define STATUS_EVERY 200u
#define STATUS_SELDOM 1000u    /* while a power cut is planned */
#define STATUS_GAP 20u         /* ours: a chattering contact must not fill the link */
#define LEASE_LONGEST 5000u    /* KL15 on */
#define LEASE_PARKED 2000u     /* KL15 off or unknown */
#define HOLD_AFTER_DEATH 120000u
#define CUT_LASTS 10000u
#define CUT_CANCELLED 0xFFFFu
#define PENDING_LASTS 5000u    /* ours: a held-back frame must not open a session hours later */
#define LATCH_TRAVEL 1000u     /* ours */
#define FALL_MV 1000u          /* such a fall of vehicle voltage is told at once */

/* --- bytes ------------------------------------------------------------------------------------------------- */

static uint32_t get_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put_u16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put_u32(uint8_t *at, uint32_t value) {
    put_u16(at, value);
    put_u16(at + 2, value >> 16);
}

/* Constant time: how long it takes does not tell where the first difference is. */
static int same(const uint8_t *one, const uint8_t *other, size_t size) {
    uint8_t difference = 0;
    size_t i;
    for (i = 0; i < size; i++) difference |= (uint8_t)(one[i] ^ other[i]);
    return difference == 0;
}

/* Wipes what was secret; volatile, so that no compiler leaves it out. */
static void wipe(void *at, size_t size) {
    volatile uint8_t *byte = (volatile uint8_t *)at;
    while (size--) *byte++ = 0;
}

/* IEEE 802.3, reflected, bit by bit: a table costs more flash than the link's 11 kB/s need. */
uint32_t ivma_crc32(const uint8_t *data, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    while (size--) {
        int bit;
        crc ^= *data++;
        for (bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

size_t ivma_cobs_encode(const uint8_t *data, size_t size, uint8_t *out) {
    size_t code_at = 0, at = 1, i;
    uint8_t code = 1;
    for (i = 0; i < size; i++) {
        if (code == 0xFF) {
            out[code_at] = code;
            code_at = at++;
            code = 1;
        }
        if (data[i] != 0) {
            out[at++] = data[i];
            code++;
        } else {
            out[code_at] = code;
            code_at = at++;
            code = 1;
        }
    }
    out[code_at] = code;
    return at;
}

int ivma_cobs_decode(uint8_t *data, size_t size) {
    size_t from = 0, to = 0;
    while (from < size) {
        size_t code = data[from++], i;
        if (code == 0 || code - 1 > size - from) return -1;
        for (i = 1; i < code; i++) {
            if (data[from] == 0) return -1;
            data[to++] = data[from++];
        }
        if (code != 0xFF && from < size) data[to++] = 0;
    }
    return (int)to;
}

/* --- SHA-256 (FIPS 180-4), HMAC (RFC 2104), HKDF (RFC 5869) ---------------------------------------------- */

struct sha256 {
    uint32_t state[8];
    uint8_t block[64];
    uint32_t size; /* bytes so far: more than 2^29 are never hashed here */
};

static const uint32_t ROUND[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u};

static uint32_t rotated(uint32_t word, int by) { return word >> by | word << (32 - by); }

/* The message schedule is kept 16 words long and turned on itself: 64 bytes of stack instead of 256. */
static void sha256_block(struct sha256 *sha) {
    uint32_t w[16], s[8];
    int i;
    for (i = 0; i < 16; i++) {
        const uint8_t *at = sha->block + 4 * i;
        w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | (uint32_t)at[3];
    }
    memcpy(s, sha->state, sizeof s);
    for (i = 0; i < 64; i++) {
        uint32_t one, two;
        if (i >= 16) {
            uint32_t a = w[(i + 1) & 15], b = w[(i + 14) & 15];
            w[i & 15] += (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[(i + 9) & 15] +
                         (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
        }
        one = s[7] + (rotated(s[4], 6) ^ rotated(s[4], 11) ^ rotated(s[4], 25)) +
              ((s[4] & s[5]) ^ (~s[4] & s[6])) + ROUND[i] + w[i & 15];
        two = (rotated(s[0], 2) ^ rotated(s[0], 13) ^ rotated(s[0], 22)) +
              ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof s[0]);
        s[4] += one;
        s[0] = one + two;
    }
    for (i = 0; i < 8; i++) sha->state[i] += s[i];
}

static void sha256_start(struct sha256 *sha) {
    static const uint32_t first[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                      0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
    memcpy(sha->state, first, sizeof first);
    sha->size = 0;
}

static void sha256_add(struct sha256 *sha, const uint8_t *data, size_t size) {
    while (size--) {
        sha->block[sha->size++ & 63u] = *data++;
        if ((sha->size & 63u) == 0) sha256_block(sha);
    }
}

static void sha256_end(struct sha256 *sha, uint8_t out[32]) {
    static const uint8_t one = 0x80, zero = 0;
    uint32_t bits = sha->size * 8u;
    uint8_t length[8] = {0};
    int i;
    for (i = 0; i < 4; i++) length[4 + i] = (uint8_t)(bits >> (24 - 8 * i));
    sha256_add(sha, &one, 1);
    while ((sha->size & 63u) != 56u) sha256_add(sha, &zero, 1);
    sha256_add(sha, length, sizeof length);
    for (i = 0; i < 32; i++) out[i] = (uint8_t)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
    wipe(sha, sizeof *sha);
}

void ivma_sha256(const uint8_t *data, size_t size, uint8_t out[32]) {
    struct sha256 sha;
    sha256_start(&sha);
    sha256_add(&sha, data, size);
    sha256_end(&sha, out);
}

/* The key, padded to a block and masked: the first block of the inner (0x36) or outer (0x5c) hash. */
static void hmac_begin(struct sha256 *sha, const uint8_t *key, size_t key_size, uint8_t mask) {
    uint8_t block[64] = {0};
    size_t i;
    if (key_size > sizeof block)
        ivma_sha256(key, key_size, block);
    else
        memcpy(block, key, key_size);
    for (i = 0; i < sizeof block; i++) block[i] ^= mask;
    sha256_start(sha);
    sha256_add(sha, block, sizeof block);
    wipe(block, sizeof block);
}

static void hmac_end(struct sha256 *sha, const uint8_t *key, size_t key_size, uint8_t out[32]) {
    uint8_t inner[32];
    sha256_end(sha, inner);
    hmac_begin(sha, key, key_size, 0x5c);
    sha256_add(sha, inner, sizeof inner);
    sha256_end(sha, out);
}

void ivma_hmac_sha256(const uint8_t *key, size_t key_size, const uint8_t *data, size_t size, uint8_t out[32]) {
    struct sha256 sha;
    hmac_begin(&sha, key, key_size, 0x36);
    sha256_add(&sha, data, size);
    hmac_end(&sha, key, key_size, out);
}

void ivma_hkdf_sha256(const uint8_t *key, size_t key_size, const uint8_t *salt, size_t salt_size,
                      const uint8_t *info, size_t info_size, uint8_t out[32]) {
    static const uint8_t first = 1;
    uint8_t extracted[32];
    struct sha256 sha;
    ivma_hmac_sha256(salt, salt_size, key, key_size, extracted);
    hmac_begin(&sha, extracted, sizeof extracted, 0x36);
    sha256_add(&sha, info, info_size);
    sha256_add(&sha, &first, 1);
    hmac_end(&sha, extracted, sizeof extracted, out);
    wipe(extracted, sizeof extracted);
}

/* --- sessions ------------------------------------------------------------------------------------------------ */

static void tag_of(const struct ivma_session *session, uint8_t direction, uint32_t counter, const uint8_t *body,
                   size_t size, uint8_t out[32]) {
    uint8_t before[5];
    struct sha256 sha;
    before[0] = direction;
    put_u32(before + 1, counter);
    hmac_begin(&sha, session->key, sizeof session->key, 0x36);
    sha256_add(&sha, before, sizeof before);
    sha256_add(&sha, body, size);
    hmac_end(&sha, session->key, sizeof session->key, out);
}

static void end_session(struct ivma_session *session) { wipe(session, sizeof *session); }

/* Whether a frame verifies: 1, or 0 for a wrong tag, or -1 for a counter that was used. Changes nothing. */
static int verifies(const struct ivma_session *session, const uint8_t *body, size_t size) {
    const uint8_t *trailer = body + size - TRAILER;
    uint8_t tag[32];
    if (!session->open) return 0;
    tag_of(session, TO_DOCK, get_u32(trailer), body, size - TRAILER, tag);
    if (!same(tag, trailer + 4, TAG)) return 0;
    return get_u32(trailer) > session->heard ? 1 : -1;
}

/* As verifies(), over both sessions. The first frame under the pending one ends the current one. */
static int authenticate(struct ivma_dock *dock, const uint8_t *body, size_t size) {
    int verdict = verifies(&dock->current, body, size);
    if (verdict == 0 && (verdict = verifies(&dock->pending, body, size)) == 1) {
        dock->current = dock->pending;
        end_session(&dock->pending);
        if (!dock->lease_runs) {
            /* It has the longest lease to send one: a session that nothing renews ends like any other. */
            dock->lease_runs = 1;
            dock->lease_from_ms = dock->now_ms;
            dock->lease_ms = LEASE_LONGEST;
        }
    }
    if (verdict == 1) dock->current.heard = get_u32(body + size - TRAILER);
    return verdict;
}

/* --- sending ------------------------------------------------------------------------------------------------- */

/* One frame; tagged under the current session if asked for and if there is one. */
static void transmit(struct ivma_dock *dock, uint8_t type, const uint8_t *payload, size_t size, int tagged) {
    uint8_t body[HEADER + 64 + TRAILER + CRC], wire[sizeof body + 2], tag[32];
    struct ivma_session *session = &dock->current;
    size_t length = HEADER + size;
    tagged = tagged && session->open;
    body[0] = VERSION;
    body[1] = type;
    body[2] = dock->sequence++;
    body[3] = tagged ? AUTHENTICATED : 0;
    if (size > 0) memcpy(body + HEADER, payload, size);
    if (tagged) {
        session->said++;
        tag_of(session, TO_TABLET, session->said, body, length, tag);
        put_u32(body + length, session->said);
        memcpy(body + length + 4, tag, TAG);
        length += TRAILER;
        if (session->said == 0xFFFFFFFFu) end_session(session); /* a counter is never used twice */
    }
    put_u32(body + length, ivma_crc32(body, length));
    length = ivma_cobs_encode(body, length + CRC, wire);
    wire[length++] = 0;
    if (!dock->board->write(dock->board->self, wire, length)) dock->dropped[IVMA_DROP_UNSENT]++;
}

/* An answer carries a trailer only if its question did: else whoever sits on the wire could have an answer to a
   sequence of his choice tagged, keep it, and hand it over later in place of a fresh one. */
static void nak(struct ivma_dock *dock, uint8_t sequence, uint8_t reason, int tagged) {
    uint8_t payload[2];
    if (!tagged) {
        uint32_t *oldest = &dock->nak_ms[dock->nak_next];
        if (dock->now_ms - *oldest < 1000u) return;
        *oldest = dock->now_ms;
        if (++dock->nak_next == IVMA_NAKS_IN_A_SECOND) dock->nak_next = 0;
    }
    payload[0] = sequence;
    payload[1] = reason;
    transmit(dock, NAK, payload, sizeof payload, tagged);
}

static uint16_t faults_now(const struct ivma_dock *dock) {
    uint16_t faults = (uint16_t)(dock->inputs.faults & 0x0Fu);
    if (dock->latch_moves && dock->now_ms - dock->latch_since_ms >= LATCH_TRAVEL) faults |= IVMA_FAULT_LATCH;
    if (dock->dead) faults |= IVMA_FAULT_DEAD_MAN;
    return faults;
}

static int fell(const struct ivma_dock *dock) {
    return dock->told_mv != IVMA_NO_UNSIGNED && dock->samples_mv > 0 && dock->lowest_mv + FALL_MV < dock->told_mv;
}

static void send_status(struct ivma_dock *dock) {
    const struct ivma_inputs *in = &dock->inputs;
    uint8_t payload[20];
    uint16_t mv = IVMA_NO_UNSIGNED;
    if (dock->samples_mv > 0) mv = fell(dock) ? dock->lowest_mv : (uint16_t)(dock->sum_mv / dock->samples_mv);
    dock->status_count++;
    dock->status_at_ms = dock->now_ms;
    dock->told_bits = in->bits & in->known;
    dock->told_known = in->known;
    dock->told_faults = faults_now(dock);
    dock->told_mv = mv;
    dock->sum_mv = dock->samples_mv = 0;
    put_u32(payload, dock->now_ms - dock->started_ms);
    put_u32(payload + 4, dock->status_count);
    payload[8] = in->bits & in->known & 0x0F;
    payload[9] = in->known & 0x0F;
    put_u16(payload + 10, mv);
    put_u16(payload + 12, in->supply_mv);
    put_u16(payload + 14, (uint16_t)in->current_ma);
    put_u16(payload + 16, (uint16_t)in->temperature_dc);
    put_u16(payload + 18, dock->told_faults | (dock->link_errors ? IVMA_FAULT_LINK : 0u));
    dock->link_errors = 0;
    transmit(dock, STATUS, payload, sizeof payload, 1);
}

static void send_ident(struct ivma_dock *dock) {
    uint8_t payload[3 + IVMA_SERIAL_SIZE + IVMA_VEHICLE_SIZE + IVMA_MODEL_SIZE];
    size_t model = 0;
    payload[0] = dock->reset_cause;
    payload[1] = dock->identity->firmware_major;
    payload[2] = dock->identity->firmware_minor;
    memcpy(payload + 3, dock->identity->serial, IVMA_SERIAL_SIZE);
    memcpy(payload + 3 + IVMA_SERIAL_SIZE, dock->vehicle, IVMA_VEHICLE_SIZE);
    while (model < IVMA_MODEL_SIZE && dock->identity->model[model] != 0) model++;
    memcpy(payload + 3 + IVMA_SERIAL_SIZE + IVMA_VEHICLE_SIZE, dock->identity->model, model);
    transmit(dock, IDENT, payload, 3 + IVMA_SERIAL_SIZE + IVMA_VEHICLE_SIZE + model, 0);
}

/* Opens a pending session beside the current one and proves it. 0 if there is no key or no fresh nonce. */
static int prove(struct ivma_dock *dock, const uint8_t *nonce) {
    static const uint8_t proof_label[] = "ivma-dock-proof/1", session_label[] = "ivma-dock-session/1";
    uint8_t salt[NONCE + DOCK_NONCE], payload[4 + DOCK_NONCE + MAC], mac[32];
    struct sha256 sha;
    if (!dock->paired || dock->start_count == 0 || dock->proof_count == 0xFFFFFFFFu) return 0;
    dock->proof_count++;
    memcpy(salt, nonce, NONCE);
    put_u32(salt + NONCE, dock->start_count);
    put_u32(salt + NONCE + 4, dock->proof_count);
    put_u32(payload, dock->status_count);
    memcpy(payload + 4, salt + NONCE, DOCK_NONCE);
    hmac_begin(&sha, dock->key, IVMA_KEY_SIZE, 0x36);
    sha256_add(&sha, proof_label, sizeof proof_label - 1);
    sha256_add(&sha, salt, sizeof salt);
    sha256_add(&sha, dock->identity->serial, IVMA_SERIAL_SIZE);
    sha256_add(&sha, dock->vehicle, IVMA_VEHICLE_SIZE);
    sha256_add(&sha, payload, 4);
    hmac_end(&sha, dock->key, IVMA_KEY_SIZE, mac);
    memcpy(payload + 4 + DOCK_NONCE, mac, MAC);
    memset(&dock->pending, 0, sizeof dock->pending);
    ivma_hkdf_sha256(dock->key, IVMA_KEY_SIZE, salt, sizeof salt, session_label, sizeof session_label - 1,
                     dock->pending.key);
    dock->pending.open = 1;
    dock->pending.since_ms = dock->now_ms;
    transmit(dock, PROOF, payload, sizeof payload, 0);
    return 1;
}

/* --- pairing, as the board keeps it ------------------------------------------------------------------------- */

static int save_pairing(struct ivma_dock *dock, uint8_t paired, const uint8_t *key, const uint8_t *vehicle) {
    uint8_t record[IVMA_RECORD_SIZE] = {0};
    int saved;
    if (paired) {
        record[0] = 1;
        record[1] = VERSION;
        memcpy(record + 2, vehicle, IVMA_VEHICLE_SIZE);
        memcpy(record + 2 + IVMA_VEHICLE_SIZE, key, IVMA_KEY_SIZE);
    }
    put_u32(record + IVMA_RECORD_SIZE - 4, ivma_crc32(record, IVMA_RECORD_SIZE - 4));
    saved = dock->board->save(dock->board->self, record);
    if (saved) {
        dock->paired = paired;
        dock->floor_version = record[1];
        memcpy(dock->vehicle, record + 2, IVMA_VEHICLE_SIZE);
        memcpy(dock->key, record + 2 + IVMA_VEHICLE_SIZE, IVMA_KEY_SIZE);
    }
    wipe(record, sizeof record);
    return saved;
}

/* A torn or damaged record is no pairing: such a dock proves nothing until it is paired again. */
static void load_pairing(struct ivma_dock *dock) {
    uint8_t record[IVMA_RECORD_SIZE];
    if (dock->board->load(dock->board->self, record) &&
        ivma_crc32(record, IVMA_RECORD_SIZE - 4) == get_u32(record + IVMA_RECORD_SIZE - 4) && record[0] == 1) {
        dock->paired = 1;
        dock->floor_version = record[1];
        memcpy(dock->vehicle, record + 2, IVMA_VEHICLE_SIZE);
        memcpy(dock->key, record + 2 + IVMA_VEHICLE_SIZE, IVMA_KEY_SIZE);
    }
    wipe(record, sizeof record);
}

/* --- outputs, dead man, power cut --------------------------------------------------------------------------- */

static void drive(struct ivma_dock *dock) {
    uint8_t outputs = dock->outputs;
    if (dock->cut == CUT_OFF || dock->cut == CUT_DONE) outputs &= (uint8_t)~IVMA_SUPPLY;
    if (outputs == dock->driven) return;
    dock->driven = outputs;
    dock->board->set_outputs(dock->board->self, outputs);
}

static int kl15(const struct ivma_dock *dock) { return (dock->inputs.bits & dock->inputs.known & IVMA_KL15) != 0; }

static uint32_t lease_length(const struct ivma_dock *dock) {
    uint32_t longest = kl15(dock) ? LEASE_LONGEST : LEASE_PARKED;
    return dock->lease_ms < longest ? dock->lease_ms : longest;
}

static void dead_man(struct ivma_dock *dock) {
    end_session(&dock->current);
    dock->lease_runs = 0;
    dock->dead = dock->hold_ends = 1;
    dock->dead_since_ms = dock->now_ms;
    dock->outputs = (uint8_t)((dock->outputs | IVMA_LED) & ~IVMA_BUZZER);
}

static void pass_time(struct ivma_dock *dock) {
    uint32_t now = dock->now_ms;
    int locked = (dock->inputs.bits & IVMA_LOCKED) != 0, held = (dock->outputs & IVMA_LATCH) != 0;
    if (dock->pending.open && now - dock->pending.since_ms >= PENDING_LASTS) end_session(&dock->pending);
    if (dock->lease_runs && now - dock->lease_from_ms >= lease_length(dock)) dead_man(dock);
    if (dock->hold_ends && now - dock->dead_since_ms >= HOLD_AFTER_DEATH) {
        dock->hold_ends = 0;
        dock->outputs &= (uint8_t)~IVMA_HOLD;
    }
    if (dock->cut == CUT_PLANNED && (int32_t)(now - dock->cut_at_ms) >= 0) {
        dock->cut = CUT_OFF;
        dock->cut_at_ms = now;
    }
    if (dock->cut == CUT_OFF && now - dock->cut_at_ms >= CUT_LASTS) dock->cut = CUT_DONE;
    if (dock->cut == CUT_DONE && kl15(dock)) {
        dock->cut = CUT_NONE;
        dock->outputs |= IVMA_SUPPLY;
    }
    if ((dock->inputs.known & IVMA_LOCKED) == 0 || (dock->inputs.bits & dock->inputs.known & IVMA_SEATED) == 0 ||
        locked == held) {
        dock->latch_moves = 0;
    } else if (!dock->latch_moves) {
        dock->latch_moves = 1;
        dock->latch_since_ms = now;
    }
    drive(dock);
}

/* --- receiving ----------------------------------------------------------------------------------------------- */

static int execute(struct ivma_dock *dock, uint8_t type, const uint8_t *payload, int tagged);

/* The length that a type asks for, or -1 if it is none for a dock. */
static int length_of(uint8_t type) {
    static const uint8_t length[] = {0, 2 + 8, NONCE, 4, 2, 2, 4, IVMA_KEY_SIZE + IVMA_VEHICLE_SIZE, 0};
    return type >= HELLO && type <= UNPAIR ? length[type] : -1;
}

static void drop(struct ivma_dock *dock, enum ivma_drop why) {
    dock->dropped[why]++;
    dock->link_errors = 1;
}

/* Carries out a command that may be obeyed; `tagged` is whether it came under the session. */
static void obey(struct ivma_dock *dock, uint8_t type, uint8_t sequence, uint8_t flags, const uint8_t *payload,
                 int tagged) {
    int done = 1, again = dock->executed && dock->executed_type == type && dock->executed_sequence == sequence;
    if (!again) {
        done = execute(dock, type, payload, tagged);
        if (done) {
            dock->executed = 1;
            dock->executed_type = type;
            dock->executed_sequence = sequence;
            dock->executions++;
        }
    }
    if (!done)
        nak(dock, sequence, NAK_REFUSED, tagged);
    else if (flags & ACK_WANTED)
        transmit(dock, ACK, &sequence, 1, tagged);
}

/* 0 if it is refused. */
static int execute(struct ivma_dock *dock, uint8_t type, const uint8_t *payload, int tagged) {
    uint32_t seconds;
    switch (type) {
    case LEASE:
        if (!dock->paired) return 0; /* unpaired meanwhile: the session runs out */
        dock->lease_runs = 1;
        dock->lease_from_ms = dock->now_ms;
        dock->lease_ms = get_u32(payload);
        dock->dead = dock->hold_ends = 0;
        return 1;
    case OUTPUTS:
        if (payload[0] & 0xE0u) return 0; /* outputs that no dock has */
        dock->outputs = (uint8_t)((dock->outputs & ~payload[0]) | (payload[1] & payload[0]));
        if (dock->cut == CUT_DONE && (payload[0] & payload[1] & IVMA_SUPPLY)) dock->cut = CUT_NONE;
        return 1;
    case POWER_CUT_IN:
        if (dock->cut == CUT_OFF) return 0; /* once begun it is seen through */
        seconds = (uint32_t)payload[0] | (uint32_t)payload[1] << 8;
        if (seconds == CUT_CANCELLED) {
            if (dock->cut == CUT_PLANNED) dock->cut = CUT_NONE;
            return 1;
        }
        if (dock->cut == CUT_DONE) return 1; /* it is cut already, and waits for KL15 */
        dock->cut = CUT_PLANNED;
        dock->cut_at_ms = dock->now_ms + seconds * 1000u;
        return 1;
    case PAIR:
        if (tagged) return 0; /* a new key is for a dock in service, untagged: no session changes its own */
        if (!save_pairing(dock, 1, payload, payload + IVMA_KEY_SIZE)) return 0;
        end_session(&dock->current); /* whoever knew the old key must not live on in its session */
        end_session(&dock->pending);
        return 1;
    default: /* UNPAIR; the session stays so that a repetition is acknowledged, and ends with its lease */
        if (!save_pairing(dock, 0, NULL, NULL)) return 0;
        end_session(&dock->pending);
        return 1;
    }
}

static void take(struct ivma_dock *dock, const uint8_t *body, size_t size) {
    uint8_t type = body[1], sequence = body[2], flags = body[3];
    const uint8_t *payload = body + HEADER;
    int tagged = 0, free_to_all = !dock->paired || dock->inputs.service;
    if (flags & AUTHENTICATED) {
        int verdict = authenticate(dock, body, size);
        if (verdict < 0) {
            drop(dock, IVMA_DROP_COUNTER); /* a replay or a double; its first was answered */
            return;
        }
        if (verdict == 0) {
            drop(dock, IVMA_DROP_TAG);
            nak(dock, sequence, NAK_TAG, 0);
            return;
        }
        tagged = 1;
    }
    if (type == HELLO) {
        if (payload[0] > VERSION || payload[1] < VERSION || payload[1] < dock->floor_version)
            nak(dock, sequence, NAK_REFUSED, 0);
        else
            send_ident(dock);
    } else if (type == CHALLENGE) {
        if (!prove(dock, payload)) nak(dock, sequence, NAK_REFUSED, 0);
    } else if (type == PING) {
        transmit(dock, PONG, payload, 4, tagged);
    } else if (tagged || (free_to_all && (type == PAIR || type == OUTPUTS))) {
        obey(dock, type, sequence, flags, payload, tagged);
    } else {
        nak(dock, sequence, NAK_NOT_AUTHENTICATED, 0);
    }
}

/* The checks in the protocol's order. */
static void check(struct ivma_dock *dock, uint8_t *body, size_t wire_size) {
    int size = ivma_cobs_decode(body, wire_size), length, trailer;
    uint8_t type, flags;
    if (size < 0) {
        drop(dock, IVMA_DROP_COBS);
        return;
    }
    if (size < HEADER + CRC || size > HEADER + PAYLOAD + TRAILER + CRC) {
        drop(dock, IVMA_DROP_LENGTH);
        return;
    }
    size -= CRC;
    if (ivma_crc32(body, (size_t)size) != get_u32(body + size)) {
        drop(dock, IVMA_DROP_CRC);
        return;
    }
    type = body[1];
    flags = body[3];
    trailer = flags & AUTHENTICATED ? TRAILER : 0;
    if (body[0] != VERSION) {
        drop(dock, IVMA_DROP_VERSION);
        return;
    }
    if (flags & ~(ACK_WANTED | AUTHENTICATED)) {
        drop(dock, IVMA_DROP_FLAGS);
        return;
    }
    if (size < HEADER + trailer || size - HEADER - trailer > PAYLOAD) {
        drop(dock, IVMA_DROP_LENGTH);
        return;
    }
    if (type >= IDENT) {
        /* Never answered: two docks on one wire would talk to each other without end. */
        drop(dock, type <= PONG ? IVMA_DROP_MISDIRECTED : IVMA_DROP_TYPE);
        return;
    }
    length = length_of(type);
    if (length < 0 || length != size - HEADER - trailer) {
        int known = trailer && authenticate(dock, body, (size_t)size) == 1;
        drop(dock, length < 0 ? IVMA_DROP_TYPE : IVMA_DROP_LENGTH);
        nak(dock, body[2], length < 0 ? NAK_TYPE : NAK_LENGTH, known);
        return;
    }
    if (trailer && (type == HELLO || type == CHALLENGE)) {
        drop(dock, IVMA_DROP_TRAILER);
        return;
    }
    take(dock, body, (size_t)size);
}

static void receive(struct ivma_dock *dock) {
    uint8_t bytes[32];
    size_t count, i;
    int budget = 8; /* 256 bytes a poll: a board that floods us must not stop the clock */
    while (budget-- > 0 && (count = dock->board->read(dock->board->self, bytes, sizeof bytes)) > 0) {
        for (i = 0; i < count; i++) {
            if (bytes[i] != 0) {
                if (dock->fill < IVMA_FRAME_SIZE)
                    dock->frame[dock->fill++] = bytes[i];
                else
                    dock->overlong = 1;
                continue;
            }
            if (dock->overlong)
                drop(dock, IVMA_DROP_LENGTH);
            else if (dock->fill > 0)
                check(dock, dock->frame, dock->fill);
            /* Not left lying about: a PAIR holds the key in clear. */
            wipe(dock->frame, dock->fill);
            dock->fill = dock->overlong = 0;
        }
    }
    wipe(bytes, sizeof bytes);
}

/* --- the loop ------------------------------------------------------------------------------------------------- */

static void sample(struct ivma_dock *dock) {
    uint16_t mv;
    dock->board->read_inputs(dock->board->self, &dock->inputs);
    mv = dock->inputs.vehicle_mv;
    if (mv == IVMA_NO_UNSIGNED) return;
    if (dock->samples_mv == 0 || mv < dock->lowest_mv) dock->lowest_mv = mv;
    if (dock->samples_mv == 0xFFFFu) { /* the sum would run over: keep the mean so far as one sample */
        dock->sum_mv /= dock->samples_mv;
        dock->samples_mv = 1;
    }
    dock->sum_mv += mv;
    dock->samples_mv++;
}

static uint32_t status_period(const struct ivma_dock *dock) {
    return dock->cut == CUT_NONE ? STATUS_EVERY : STATUS_SELDOM;
}

static int changed(const struct ivma_dock *dock) {
    return (dock->inputs.bits & dock->inputs.known) != dock->told_bits || dock->inputs.known != dock->told_known ||
           faults_now(dock) != dock->told_faults || fell(dock);
}

void ivma_dock_start(struct ivma_dock *dock, const struct ivma_board *board, const struct ivma_identity *identity,
                     uint8_t reset_cause, uint8_t outputs) {
    uint8_t i;
    memset(dock, 0, sizeof *dock);
    dock->board = board;
    dock->identity = identity;
    dock->reset_cause = reset_cause;
    dock->outputs = dock->driven = outputs;
    dock->told_mv = IVMA_NO_UNSIGNED;
    dock->started_ms = dock->now_ms = board->now_ms(board->self);
    for (i = 0; i < IVMA_NAKS_IN_A_SECOND; i++) dock->nak_ms[i] = dock->now_ms - 1000u;
    load_pairing(dock);
    dock->start_count = board->count_start(board->self);
    sample(dock);
    dead_man(dock);
    drive(dock);
    send_status(dock);
}

void ivma_dock_poll(struct ivma_dock *dock) {
    dock->now_ms = dock->board->now_ms(dock->board->self);
    sample(dock);
    pass_time(dock);
    receive(dock);
    pass_time(dock); /* what a command changed takes effect now */
    if (dock->now_ms - dock->status_at_ms >= status_period(dock) ||
        (changed(dock) && dock->now_ms - dock->status_at_ms >= STATUS_GAP))
        send_status(dock);
}

/* The shorter of `least` and what is left of `length` since `from`. */
static uint32_t left(uint32_t least, uint32_t now, uint32_t from, uint32_t length) {
    uint32_t gone = now - from, rest = gone >= length ? 0 : length - gone;
    return rest < least ? rest : least;
}

uint32_t ivma_dock_idle_ms(const struct ivma_dock *dock) {
    uint32_t now = dock->now_ms, idle = left(status_period(dock), now, dock->status_at_ms, status_period(dock));
    if (changed(dock)) idle = left(idle, now, dock->status_at_ms, STATUS_GAP);
    if (dock->lease_runs) idle = left(idle, now, dock->lease_from_ms, lease_length(dock));
    if (dock->pending.open) idle = left(idle, now, dock->pending.since_ms, PENDING_LASTS);
    if (dock->hold_ends) idle = left(idle, now, dock->dead_since_ms, HOLD_AFTER_DEATH);
    if (dock->latch_moves && !(faults_now(dock) & IVMA_FAULT_LATCH))
        idle = left(idle, now, dock->latch_since_ms, LATCH_TRAVEL);
    if (dock->cut == CUT_OFF) idle = left(idle, now, dock->cut_at_ms, CUT_LASTS);
    if (dock->cut == CUT_PLANNED) {
        uint32_t rest = dock->cut_at_ms - now;
        if (rest < idle) idle = rest;
    }
    return idle;
}

#endif /* IVMA_DOCK_INTERFACE */
