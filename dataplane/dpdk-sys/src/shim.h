/*
 * The shim: what Rust calls instead of DPDK.
 *
 * Everything here is our own ABI: fixed-width integers, our own structs, plain pointers. DPDK's
 * structs change between releases and half of its hot path is inline functions; both end in
 * shim.c. A function that returns int gives 0 or a negative errno unless it says otherwise.
 *
 * src/lib.rs declares the same things by hand; shim.c asserts every number that both rely on.
 */
#ifndef SLUICE_SHIM_H
#define SLUICE_SHIM_H

#include <stddef.h>
#include <stdint.h>

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;

/* Where Rust finds the fields of an mbuf, in octets from its beginning. */
#define SHIM_MBUF_BUF_ADDR 0
#define SHIM_MBUF_DATA_OFF 16
#define SHIM_MBUF_REFCNT 18
#define SHIM_MBUF_NB_SEGS 20
#define SHIM_MBUF_PORT 22
#define SHIM_MBUF_OL_FLAGS 24
#define SHIM_MBUF_PKT_LEN 36
#define SHIM_MBUF_DATA_LEN 40
#define SHIM_MBUF_VLAN_TCI 42
#define SHIM_MBUF_RSS 44
#define SHIM_MBUF_BUF_LEN 54
#define SHIM_MBUF_POOL 56

/* What ol_flags says of a received frame. */
#define SHIM_RX_RSS_HASH (1ULL << 1)
#define SHIM_RX_L4_BAD (1ULL << 3)
#define SHIM_RX_L4_MASK ((1ULL << 3) | (1ULL << 8))
#define SHIM_RX_IP_BAD (1ULL << 4)
#define SHIM_RX_IP_MASK ((1ULL << 4) | (1ULL << 7))
#define SHIM_RX_VLAN_STRIPPED (1ULL << 6)

#define SHIM_HEADROOM 128
#define SHIM_RSS_KEY_MAX 64
#define SHIM_RETA_MAX 2048
#define SHIM_NO_LCORE UINT32_MAX
#define SHIM_ANY_SOCKET (-1)

/* Kinds of frame that RSS can hash; addresses and ports for the ones that have ports. */
#define SHIM_RSS_IPV4 1u
#define SHIM_RSS_IPV4_TCP 2u
#define SHIM_RSS_IPV4_UDP 4u
#define SHIM_RSS_IPV6 8u
#define SHIM_RSS_IPV6_TCP 16u
#define SHIM_RSS_IPV6_UDP 32u
#define SHIM_RSS_IPV4_SCTP 64u
#define SHIM_RSS_IPV6_SCTP 128u

/* What a device is and can do. */
struct shim_port_info {
	char driver[32];
	char device[64];
	int32_t socket; /* NUMA node, SHIM_ANY_SOCKET when unknown */
	uint32_t if_index;
	uint32_t max_frame;     /* octets, headers included, without the frame check sequence */
	uint16_t min_mtu;
	uint16_t max_mtu;       /* what max_frame leaves after the link header */
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t reta_size;
	uint8_t hash_key_size;  /* octets, 0 when the driver does not say */
	uint8_t reports_hash;   /* writes the RSS hash into the mbuf */
	uint32_t rss_types;     /* SHIM_RSS_* */
};

/* Which call of shim_port_setup failed. */
#define SHIM_STEP_INFO 0
#define SHIM_STEP_CONFIGURE 1
#define SHIM_STEP_DESCRIPTORS 2
#define SHIM_STEP_RX_QUEUE 3
#define SHIM_STEP_TX_QUEUE 4

struct shim_port_setup {
	struct rte_mempool *pool;
	uint32_t rss_types;     /* in: wanted; out: programmed (0 when the device took none) */
	uint16_t queues;        /* pairs */
	uint16_t rx_descriptors; /* in: wanted, 0 for the driver's choice; out: what it is */
	uint16_t tx_descriptors;
	uint16_t mtu;
	uint8_t rss_key_len;    /* octets of rss_key, 0 for the driver's own key */
	uint8_t rss_key[SHIM_RSS_KEY_MAX];
	uint8_t reports_hash;   /* out */
	uint8_t step;           /* out: SHIM_STEP_* of a failure */
};

struct shim_port_stats {
	uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes;
	uint64_t rx_missed;   /* the queues were full */
	uint64_t rx_errors, tx_errors;
	uint64_t rx_no_mbuf;  /* the pool was dry */
};

struct shim_port_link {
	uint32_t speed_mbps; /* 0 none, UINT32_MAX unknown */
	uint8_t up;
	uint8_t full_duplex;
};

/* Log: DPDK's messages go to a bounded buffer of ours instead of stderr and syslog. */
int shim_log_capture(void);
size_t shim_log_take(char *to, size_t room);

/* Environment. */
int shim_eal_init(int argc, char **argv);
int shim_eal_cleanup(void);
const char *shim_eal_runtime_dir(void);
const char *shim_version(void);

/* Threads. */
int shim_thread_register(void);
void shim_thread_unregister(void);
uint32_t shim_lcore_id(void);

/* Buffers. */
uint64_t shim_pool_bytes(uint32_t count, uint16_t data_room);
struct rte_mempool *shim_pool_create(const char *name, uint32_t count, uint32_t cache,
	uint16_t data_room, int32_t socket, int *error);
void shim_pool_free(struct rte_mempool *pool);
uint32_t shim_pool_available(const struct rte_mempool *pool);
uint32_t shim_pool_size(const struct rte_mempool *pool);
struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool);
int shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t n);
void shim_mbuf_free(struct rte_mbuf *mbuf);
void shim_mbuf_free_bulk(struct rte_mbuf **mbufs, uint32_t n);
void shim_mbuf_drop_tail(struct rte_mbuf *mbuf);

/* Queues: one call a burst. */
uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n);

/* Devices. */
int shim_dev_known(const char *devargs);
int shim_dev_probe(const char *devargs);
int shim_port_find(const char *device, uint16_t *port);
int shim_port_remove(uint16_t port, uint8_t unplug);
int shim_port_info(uint16_t port, struct shim_port_info *info);
int shim_port_setup(uint16_t port, struct shim_port_setup *setup);
int shim_port_start(uint16_t port);
int shim_port_stop(uint16_t port);
int shim_port_mtu_set(uint16_t port, uint16_t mtu);
int shim_port_mtu_get(uint16_t port, uint16_t *mtu);
int shim_port_mac_get(uint16_t port, uint8_t mac[6]);
int shim_port_mac_set(uint16_t port, const uint8_t mac[6]);
int shim_port_promiscuous(uint16_t port, uint8_t on);
int shim_port_allmulticast(uint16_t port, uint8_t on);
int shim_port_link(uint16_t port, struct shim_port_link *link);
int shim_port_stats(uint16_t port, struct shim_port_stats *stats);
int shim_port_rss_get(uint16_t port, uint8_t *key, uint8_t key_len, uint32_t *types);
int shim_port_reta_set(uint16_t port, const uint16_t *queues, uint16_t n);
int shim_port_reta_get(uint16_t port, uint16_t *queues, uint16_t n);

/* Rings that look like devices; each ring has one producer and one consumer. */
struct rte_ring *shim_ring_create(const char *name, uint32_t slots, int32_t socket, int *error);
void shim_ring_free(struct rte_ring *ring);
uint32_t shim_ring_take(struct rte_ring *ring, struct rte_mbuf **mbufs, uint32_t n);
int shim_ring_port(const char *name, struct rte_ring **rx, struct rte_ring **tx, uint16_t queues,
	uint16_t *port);

#endif
