/*
 * fuzz ROUNDS SEED: random bytes and frames with a right crc into a paired dock that has an open session; built with
 * -fsanitize=address,undefined. It includes the dock, so that it can look and can make what only a key holder can.
 * Exit 1 and a line on standard error if the dock does what nobody with the key asked for, or no longer answers.
 */
#include "../../simulator/firmware/ivma_dock.c"

#include <stdio.h>
#include <stdlib.h>

static uint8_t in[4096], record[IVMA_RECORD_SIZE];
static size_t in_size, in_at;
static uint32_t clock_ms, starts, dice_state, answers;
static struct ivma_inputs now_in = {IVMA_SEATED, 15, 0, 0, 12600, 12000, 1500, 235};
static int flash_works = 1, pairs;
static unsigned long dropped[IVMA_DROPS];

static uint32_t dice(void) { /* xorshift */
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 17;
    return dice_state ^= dice_state << 5;
}

static uint32_t now(void *self) { (void)self; return clock_ms; }
static size_t take_in(void *self, uint8_t *bytes, size_t room) {
    size_t count = in_size - in_at < room ? in_size - in_at : room;
    (void)self;
    memcpy(bytes, in + in_at, count);
    in_at += count;
    return count;
}
static int give(void *self, const uint8_t *bytes, size_t count) {
    size_t i;
    (void)self;
    for (i = 0; i + 1 < count; i++)
        if (bytes[i] == 0) exit((fprintf(stderr, "a zero within a frame\n"), 1));
    if (bytes[count - 1] != 0) exit((fprintf(stderr, "no zero at the end of a frame\n"), 1));
    answers++;
    return dice() % 16 != 0; /* a full wire now and then */
}
static void look(void *self, struct ivma_inputs *inputs) { (void)self; *inputs = now_in; }
static void put(void *self, uint8_t outputs) { (void)self; (void)outputs; }
static int load(void *self, uint8_t *to) { (void)self; memcpy(to, record, sizeof record); return 1; }
static int save(void *self, const uint8_t *from) {
    (void)self;
    pairs++;
    if (flash_works) memcpy(record, from, sizeof record);
    return flash_works;
}
static uint32_t count(void *self) { (void)self; return ++starts; }

static struct ivma_dock dock;
static const struct ivma_board BOARD = {NULL, now, take_in, give, look, put, load, save, count};
static const struct ivma_identity IDENTITY = {"FUZZ", 1, 0, "fuzzed"};

static void feed(const uint8_t *bytes, size_t size) {
    memcpy(in, bytes, size);
    in_at = 0;
    in_size = size;
    do ivma_dock_poll(&dock);
    while (in_at < in_size);
}

/* A frame with a right crc, as damaged or as right as `payload` is; returns its size on the wire. */
static size_t frame(uint8_t *wire, uint8_t version, uint8_t type, uint8_t flags, const uint8_t *payload, size_t size) {
    uint8_t body[512];
    body[0] = version;
    body[1] = type;
    body[2] = (uint8_t)dice();
    body[3] = flags;
    memcpy(body + HEADER, payload, size);
    put_u32(body + HEADER + size, ivma_crc32(body, HEADER + size));
    size = ivma_cobs_encode(body, HEADER + size + CRC, wire);
    wire[size++] = 0;
    return size;
}

/* What only a key holder can send. */
static void authentic(uint8_t type, const uint8_t *payload, size_t size) {
    uint8_t body[300], wire[300], tag[32];
    struct ivma_session *under = dock.pending.open ? &dock.pending : &dock.current;
    uint32_t counter = under->heard + 1;
    body[0] = VERSION;
    body[1] = type;
    body[2] = (uint8_t)dice();
    body[3] = ACK_WANTED | AUTHENTICATED;
    memcpy(body + HEADER, payload, size);
    tag_of(under, TO_DOCK, counter, body, HEADER + size, tag);
    put_u32(body + HEADER + size, counter);
    memcpy(body + HEADER + size + 4, tag, TAG);
    size += HEADER + TRAILER;
    put_u32(body + size, ivma_crc32(body, size));
    size = ivma_cobs_encode(body, size + CRC, wire);
    wire[size++] = 0;
    feed(wire, size);
}

static void expect(int holds, const char *what) {
    if (!holds) exit((fprintf(stderr, "%s\n", what), 1));
}

int main(int arguments, char **words) {
    long round, rounds = arguments > 1 ? atol(words[1]) : 10000;
    uint8_t bytes[1200], payload[260], key[IVMA_KEY_SIZE] = {7}, lease[4] = {0x88, 0x13};
    size_t i, size;
    dice_state = arguments > 2 ? (uint32_t)atol(words[2]) | 1u : 1u;
    clock_ms = 0u - 30000u; /* wraps while we watch */
    dock.board = &BOARD;
    save_pairing(&dock, 1, key, (const uint8_t *)"VEHICLE-000000042");
    ivma_dock_start(&dock, &BOARD, &IDENTITY, 0, IVMA_SUPPLY);
    pairs = 0;
    for (round = 0; round < rounds; round++) {
        static const uint8_t end = 0;
        uint32_t done = dock.executions;
        if (dice() % 4) feed(&end, 1); /* what noise left half open */
        if (dice() % 8 == 0) now_in.bits = (uint8_t)dice(), now_in.known = (uint8_t)dice(), now_in.vehicle_mv = (uint16_t)dice();
        clock_ms += dice() % 64;
        for (i = 0; i < sizeof payload; i++) payload[i] = (uint8_t)dice();
        switch (dice() % 4) {
        case 0: /* noise */
            size = dice() % sizeof bytes;
            for (i = 0; i < size; i++) bytes[i] = (uint8_t)(dice() % 5 ? dice() : 0);
            break;
        case 1: /* any frame with a right crc */
            size = frame(bytes, dice() % 8 ? 1 : (uint8_t)dice(), (uint8_t)dice(), (uint8_t)(dice() % 5), payload, dice() % 240);
            break;
        default: { /* a command of the right length, untagged or with a wrong tag */
            uint8_t type = (uint8_t)(1 + dice() % 8), flags = (uint8_t)(dice() % 4);
            size = frame(bytes, 1, type, flags, payload, (size_t)length_of(type) + (flags & AUTHENTICATED ? TRAILER : 0));
        }
        }
        feed(bytes, size);
        expect(dock.executions == done && pairs == 0, "executed what nobody with the key asked for");
        expect(dock.fill <= IVMA_FRAME_SIZE, "the buffer ran over");
        if (dice() % 16 == 0) { /* the tablet is there too: a session, a lease, an output */
            feed(&end, 1);
            size = frame(bytes, 1, CHALLENGE, 0, payload, NONCE);
            feed(bytes, size);
            expect(dock.pending.open, "a challenge opened nothing");
            dock.executed = 0;
            authentic(LEASE, lease, sizeof lease);
            expect(dock.current.open && dock.executions == done + 1, "a lease under the key was not taken");
        }
        for (i = 0; i < IVMA_DROPS; i++) dropped[i] += dock.dropped[i], dock.dropped[i] = 0;
        if (dice() % 512 == 0) ivma_dock_start(&dock, &BOARD, &IDENTITY, 1, dock.driven);
    }
    printf("%ld rounds, %lu frames sent; dropped", rounds, (unsigned long)answers);
    for (i = 0; i < IVMA_DROPS; i++) printf(" %lu", dropped[i]);
    printf("\n");
    return 0;
}
