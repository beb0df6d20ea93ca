/*
 * DPDK behind an ABI of our own; see shim.h. Builds against 22.11, 23.11 and 24.11.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_version.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#include "shim.h"

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "Sluice needs DPDK 22.11 or newer"
#endif

/* ---- The layout that Rust reads without a call --------------------------------------------- */

#define FIELD(offset, size, field)                                                       \
	_Static_assert(offsetof(struct rte_mbuf, field) == (offset), "mbuf." #field " moved");  \
	_Static_assert(sizeof(((struct rte_mbuf *)0)->field) == (size), "mbuf." #field " resized")

FIELD(SHIM_MBUF_BUF_ADDR, 8, buf_addr);
FIELD(SHIM_MBUF_DATA_OFF, 2, data_off);
FIELD(SHIM_MBUF_REFCNT, 2, refcnt);
FIELD(SHIM_MBUF_NB_SEGS, 2, nb_segs);
FIELD(SHIM_MBUF_PORT, 2, port);
FIELD(SHIM_MBUF_OL_FLAGS, 8, ol_flags);
FIELD(SHIM_MBUF_PKT_LEN, 4, pkt_len);
FIELD(SHIM_MBUF_DATA_LEN, 2, data_len);
FIELD(SHIM_MBUF_VLAN_TCI, 2, vlan_tci);
FIELD(SHIM_MBUF_RSS, 4, hash.rss);
FIELD(SHIM_MBUF_BUF_LEN, 2, buf_len);
FIELD(SHIM_MBUF_POOL, 8, pool);

_Static_assert(SHIM_RX_RSS_HASH == RTE_MBUF_F_RX_RSS_HASH, "flag moved");
_Static_assert(SHIM_RX_L4_BAD == RTE_MBUF_F_RX_L4_CKSUM_BAD, "flag moved");
_Static_assert(SHIM_RX_L4_MASK == RTE_MBUF_F_RX_L4_CKSUM_MASK, "flag moved");
_Static_assert(SHIM_RX_IP_BAD == RTE_MBUF_F_RX_IP_CKSUM_BAD, "flag moved");
_Static_assert(SHIM_RX_IP_MASK == RTE_MBUF_F_RX_IP_CKSUM_MASK, "flag moved");
_Static_assert(SHIM_RX_VLAN_STRIPPED == RTE_MBUF_F_RX_VLAN_STRIPPED, "flag moved");
_Static_assert(SHIM_HEADROOM == RTE_PKTMBUF_HEADROOM, "headroom differs");
_Static_assert(SHIM_NO_LCORE == LCORE_ID_ANY, "no-lcore differs");
_Static_assert(SHIM_ANY_SOCKET == SOCKET_ID_ANY, "any-socket differs");
_Static_assert(sizeof(void *) == 8, "64-bit only");

/* What the two sides agree on about our own structs. */
_Static_assert(sizeof(struct shim_port_info) == 124, "shim_port_info: lib.rs says 124");
_Static_assert(sizeof(struct shim_port_setup) == 88, "shim_port_setup: lib.rs says 88");
_Static_assert(sizeof(struct shim_port_stats) == 64, "shim_port_stats: lib.rs says 64");
_Static_assert(sizeof(struct shim_port_link) == 8, "shim_port_link: lib.rs says 8");

/* Some functions return -1 and leave the reason in rte_errno, some return it. */
static int failure(int ret)
{
	if (ret < -1)
		return ret;
	return rte_errno > 0 ? -rte_errno : -EIO;
}

static int outcome(int ret)
{
	return ret < 0 ? failure(ret) : 0;
}

/* ---- Log ----------------------------------------------------------------------------------- */

/* The newest LOG_ROOM octets; whole lines are the reader's business. */
#define LOG_ROOM 16384

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_kept[LOG_ROOM];
static size_t log_len;

static ssize_t log_write(void *cookie, const char *from, size_t len)
{
	(void)cookie;
	size_t take = len > LOG_ROOM ? LOG_ROOM : len;
	pthread_mutex_lock(&log_lock);
	size_t excess = log_len + take > LOG_ROOM ? log_len + take - LOG_ROOM : 0;
	memmove(log_kept, log_kept + excess, log_len - excess);
	log_len -= excess;
	memcpy(log_kept + log_len, from + (len - take), take);
	log_len += take;
	pthread_mutex_unlock(&log_lock);
	return (ssize_t)len;
}

int shim_log_capture(void)
{
	static FILE *stream;
	cookie_io_functions_t calls = { .write = log_write };
	if (stream == NULL)
		stream = fopencookie(NULL, "w", calls);
	if (stream == NULL)
		return -ENOMEM;
	setvbuf(stream, NULL, _IOLBF, 1024);
	return rte_openlog_stream(stream) < 0 ? -EIO : 0;
}

size_t shim_log_take(char *to, size_t room)
{
	pthread_mutex_lock(&log_lock);
	size_t take = log_len < room ? log_len : room;
	memcpy(to, log_kept + (log_len - take), take);
	log_len = 0;
	pthread_mutex_unlock(&log_lock);
	return take;
}

/* ---- Environment and threads --------------------------------------------------------------- */

int shim_eal_init(int argc, char **argv)
{
	return outcome(rte_eal_init(argc, argv));
}

int shim_eal_cleanup(void)
{
	return outcome(rte_eal_cleanup());
}

const char *shim_eal_runtime_dir(void)
{
	return rte_eal_get_runtime_dir();
}

const char *shim_version(void)
{
	return rte_version();
}

int shim_thread_register(void)
{
	return outcome(rte_thread_register());
}

void shim_thread_unregister(void)
{
	rte_thread_unregister();
}

uint32_t shim_lcore_id(void)
{
	return rte_lcore_id();
}

/* ---- Buffers ------------------------------------------------------------------------------- */

uint64_t shim_pool_bytes(uint32_t count, uint16_t data_room)
{
	uint32_t element = sizeof(struct rte_mbuf) + data_room;
	return (uint64_t)rte_mempool_calc_obj_size(element, 0, NULL) * count;
}

struct rte_mempool *shim_pool_create(const char *name, uint32_t count, uint32_t cache,
	uint16_t data_room, int32_t socket, int *error)
{
	struct rte_mempool *pool =
		rte_pktmbuf_pool_create(name, count, cache, 0, data_room, socket);
	*error = pool == NULL ? failure(-1) : 0;
	return pool;
}

void shim_pool_free(struct rte_mempool *pool)
{
	rte_mempool_free(pool);
}

uint32_t shim_pool_available(const struct rte_mempool *pool)
{
	return rte_mempool_avail_count(pool);
}

uint32_t shim_pool_size(const struct rte_mempool *pool)
{
	return pool->size;
}

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t n)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, n);
}

void shim_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

void shim_mbuf_free_bulk(struct rte_mbuf **mbufs, uint32_t n)
{
	rte_pktmbuf_free_bulk(mbufs, n);
}

void shim_mbuf_drop_tail(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf->next);
	mbuf->next = NULL;
	mbuf->nb_segs = 1;
	mbuf->pkt_len = mbuf->data_len;
}

/* ---- Queues -------------------------------------------------------------------------------- */

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, mbufs, n);
}

uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, mbufs, n);
}

/* ---- Devices ------------------------------------------------------------------------------- */

int shim_dev_known(const char *devargs)
{
	struct rte_devargs parsed;
	memset(&parsed, 0, sizeof(parsed));
	if (rte_devargs_parse(&parsed, devargs) != 0)
		return -ENODEV;
	free(parsed.data);
	return 0;
}

int shim_dev_probe(const char *devargs)
{
	rte_errno = 0;
	return outcome(rte_dev_probe(devargs));
}

/* The port of a device by its name; a PCI device's port may carry a longer name than it. */
int shim_port_find(const char *device, uint16_t *port)
{
	struct rte_eth_dev_info info;
	uint16_t id;
	if (rte_eth_dev_get_port_by_name(device, port) == 0)
		return 0;
	RTE_ETH_FOREACH_DEV(id) {
		if (rte_eth_dev_info_get(id, &info) != 0 || info.device == NULL)
			continue;
		if (strcmp(rte_dev_name(info.device), device) == 0) {
			*port = id;
			return 0;
		}
	}
	return -ENODEV;
}

int shim_port_remove(uint16_t port, uint8_t unplug)
{
	struct rte_eth_dev_info info;
	struct rte_device *device = NULL;
	if (rte_eth_dev_info_get(port, &info) == 0)
		device = info.device;
	int ret = rte_eth_dev_close(port);
	if (unplug && device != NULL)
		ret = rte_dev_remove(device);
	return outcome(ret);
}

static const struct { uint32_t ours; uint64_t theirs; } rss_kinds[] = {
	{ SHIM_RSS_IPV4, RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_OTHER },
	{ SHIM_RSS_IPV4_TCP, RTE_ETH_RSS_NONFRAG_IPV4_TCP },
	{ SHIM_RSS_IPV4_UDP, RTE_ETH_RSS_NONFRAG_IPV4_UDP },
	{ SHIM_RSS_IPV4_SCTP, RTE_ETH_RSS_NONFRAG_IPV4_SCTP },
	{ SHIM_RSS_IPV6, RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_FRAG_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_OTHER },
	{ SHIM_RSS_IPV6_TCP, RTE_ETH_RSS_NONFRAG_IPV6_TCP },
	{ SHIM_RSS_IPV6_UDP, RTE_ETH_RSS_NONFRAG_IPV6_UDP },
	{ SHIM_RSS_IPV6_SCTP, RTE_ETH_RSS_NONFRAG_IPV6_SCTP },
};

static uint32_t rss_from(uint64_t theirs)
{
	uint32_t ours = 0;
	for (size_t i = 0; i < RTE_DIM(rss_kinds); i++)
		if (theirs & rss_kinds[i].theirs)
			ours |= rss_kinds[i].ours;
	return ours;
}

static uint64_t rss_to(uint32_t ours)
{
	uint64_t theirs = 0;
	for (size_t i = 0; i < RTE_DIM(rss_kinds); i++)
		if (ours & rss_kinds[i].ours)
			theirs |= rss_kinds[i].theirs;
	return theirs;
}

/* As ethdev itself computes it: what the driver says, else header and frame check sequence. */
static uint32_t overhead(const struct rte_eth_dev_info *info)
{
	if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
		return info->max_rx_pktlen - info->max_mtu;
	return RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
}

static uint16_t largest_mtu(const struct rte_eth_dev_info *info)
{
	uint32_t most = info->max_rx_pktlen > overhead(info) ?
		info->max_rx_pktlen - overhead(info) : 0;
	return most < info->max_mtu ? (uint16_t)most : info->max_mtu;
}

static void copy_name(char *to, size_t room, const char *from)
{
	snprintf(to, room, "%s", from == NULL ? "" : from);
}

int shim_port_info(uint16_t port, struct shim_port_info *out)
{
	struct rte_eth_dev_info info;
	int ret = rte_eth_dev_info_get(port, &info);
	if (ret != 0)
		return failure(ret);
	memset(out, 0, sizeof(*out));
	copy_name(out->driver, sizeof(out->driver), info.driver_name);
	copy_name(out->device, sizeof(out->device),
		info.device == NULL ? NULL : rte_dev_name(info.device));
	out->socket = rte_eth_dev_socket_id(port);
	out->if_index = info.if_index;
	out->max_frame = info.max_rx_pktlen;
	out->min_mtu = info.min_mtu;
	out->max_mtu = largest_mtu(&info);
	out->max_rx_queues = info.max_rx_queues;
	out->max_tx_queues = info.max_tx_queues;
	out->reta_size = info.reta_size;
	out->hash_key_size = info.hash_key_size;
	out->reports_hash = (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH) != 0;
	out->rss_types = rss_from(info.flow_type_rss_offloads);
	return 0;
}

/* Fits the key into what the device holds: a Toeplitz key may be continued by zeros, because
 * the octets past the input's length + 4 are never read. */
static uint8_t fit_key(struct shim_port_setup *s, const struct rte_eth_dev_info *info)
{
	if (s->rss_key_len == 0)
		return 0;
	if (info->hash_key_size == 0)
		return s->rss_key_len;
	if (info->hash_key_size > SHIM_RSS_KEY_MAX)
		return 0;
	if (info->hash_key_size > s->rss_key_len)
		memset(s->rss_key + s->rss_key_len, 0, info->hash_key_size - s->rss_key_len);
	return info->hash_key_size;
}

static void want_rss(struct rte_eth_conf *conf, struct shim_port_setup *s,
	const struct rte_eth_dev_info *info)
{
	uint64_t types = rss_to(s->rss_types) & info->flow_type_rss_offloads;
	s->rss_types = rss_from(types);
	s->reports_hash = 0;
	if (types == 0)
		return;
	conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	conf->rx_adv_conf.rss_conf.rss_hf = types;
	uint8_t len = fit_key(s, info);
	conf->rx_adv_conf.rss_conf.rss_key = len == 0 ? NULL : s->rss_key;
	conf->rx_adv_conf.rss_conf.rss_key_len = len;
	if (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH) {
		conf->rxmode.offloads |= RTE_ETH_RX_OFFLOAD_RSS_HASH;
		s->reports_hash = 1;
	}
}

/* With RSS where the device has it; without where it has it only by its word. */
static int configure(uint16_t port, struct shim_port_setup *s,
	const struct rte_eth_dev_info *info, struct rte_eth_conf *conf)
{
	memset(conf, 0, sizeof(*conf));
	conf->rxmode.mtu = s->mtu;
	want_rss(conf, s, info);
	int ret = rte_eth_dev_configure(port, s->queues, s->queues, conf);
	if (ret == 0 || s->rss_types == 0)
		return ret;
	memset(conf, 0, sizeof(*conf));
	conf->rxmode.mtu = s->mtu;
	s->rss_types = 0;
	s->reports_hash = 0;
	return rte_eth_dev_configure(port, s->queues, s->queues, conf);
}

static int descriptors(uint16_t port, struct shim_port_setup *s,
	const struct rte_eth_dev_info *info)
{
	if (s->rx_descriptors == 0)
		s->rx_descriptors = info->default_rxportconf.ring_size;
	if (s->tx_descriptors == 0)
		s->tx_descriptors = info->default_txportconf.ring_size;
	if (s->rx_descriptors == 0)
		s->rx_descriptors = 1024;
	if (s->tx_descriptors == 0)
		s->tx_descriptors = 1024;
	return rte_eth_dev_adjust_nb_rx_tx_desc(port, &s->rx_descriptors, &s->tx_descriptors);
}

static int queue_pair(uint16_t port, uint16_t queue, struct shim_port_setup *s,
	const struct rte_eth_dev_info *info, const struct rte_eth_conf *conf)
{
	struct rte_eth_rxconf rx = info->default_rxconf;
	struct rte_eth_txconf tx = info->default_txconf;
	int socket = rte_eth_dev_socket_id(port);
	rx.offloads = conf->rxmode.offloads;
	tx.offloads = conf->txmode.offloads;
	s->step = SHIM_STEP_RX_QUEUE;
	int ret = rte_eth_rx_queue_setup(port, queue, s->rx_descriptors, (unsigned int)socket, &rx,
		s->pool);
	if (ret != 0)
		return ret;
	s->step = SHIM_STEP_TX_QUEUE;
	return rte_eth_tx_queue_setup(port, queue, s->tx_descriptors, (unsigned int)socket, &tx);
}

int shim_port_setup(uint16_t port, struct shim_port_setup *s)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf;
	s->step = SHIM_STEP_INFO;
	int ret = rte_eth_dev_info_get(port, &info);
	if (ret != 0)
		return failure(ret);
	s->step = SHIM_STEP_CONFIGURE;
	ret = configure(port, s, &info, &conf);
	if (ret != 0)
		return failure(ret);
	s->step = SHIM_STEP_DESCRIPTORS;
	ret = descriptors(port, s, &info);
	for (uint16_t queue = 0; ret == 0 && queue < s->queues; queue++)
		ret = queue_pair(port, queue, s, &info, &conf);
	return ret == 0 ? 0 : failure(ret);
}

int shim_port_start(uint16_t port)
{
	rte_errno = 0;
	return outcome(rte_eth_dev_start(port));
}

int shim_port_stop(uint16_t port)
{
	rte_errno = 0;
	return outcome(rte_eth_dev_stop(port));
}

int shim_port_mtu_set(uint16_t port, uint16_t mtu)
{
	return rte_eth_dev_set_mtu(port, mtu);
}

int shim_port_mtu_get(uint16_t port, uint16_t *mtu)
{
	return rte_eth_dev_get_mtu(port, mtu);
}

int shim_port_mac_get(uint16_t port, uint8_t mac[6])
{
	struct rte_ether_addr addr;
	int ret = rte_eth_macaddr_get(port, &addr);
	if (ret == 0)
		memcpy(mac, addr.addr_bytes, 6);
	return ret;
}

int shim_port_mac_set(uint16_t port, const uint8_t mac[6])
{
	struct rte_ether_addr addr;
	memcpy(addr.addr_bytes, mac, 6);
	return rte_eth_dev_default_mac_addr_set(port, &addr);
}

int shim_port_promiscuous(uint16_t port, uint8_t on)
{
	return on ? rte_eth_promiscuous_enable(port) : rte_eth_promiscuous_disable(port);
}

int shim_port_allmulticast(uint16_t port, uint8_t on)
{
	return on ? rte_eth_allmulticast_enable(port) : rte_eth_allmulticast_disable(port);
}

int shim_port_link(uint16_t port, struct shim_port_link *out)
{
	struct rte_eth_link link;
	int ret = rte_eth_link_get_nowait(port, &link);
	if (ret != 0)
		return failure(ret);
	out->speed_mbps = link.link_speed;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return 0;
}

int shim_port_stats(uint16_t port, struct shim_port_stats *out)
{
	struct rte_eth_stats stats;
	int ret = rte_eth_stats_get(port, &stats);
	if (ret != 0)
		return failure(ret);
	out->rx_packets = stats.ipackets;
	out->tx_packets = stats.opackets;
	out->rx_bytes = stats.ibytes;
	out->tx_bytes = stats.obytes;
	out->rx_missed = stats.imissed;
	out->rx_errors = stats.ierrors;
	out->tx_errors = stats.oerrors;
	out->rx_no_mbuf = stats.rx_nombuf;
	return 0;
}

int shim_port_rss_get(uint16_t port, uint8_t *key, uint8_t key_len, uint32_t *types)
{
	struct rte_eth_rss_conf conf;
	memset(&conf, 0, sizeof(conf));
	conf.rss_key = key;
	conf.rss_key_len = key_len;
	int ret = rte_eth_dev_rss_hash_conf_get(port, &conf);
	if (ret != 0)
		return failure(ret);
	*types = rss_from(conf.rss_hf);
	return 0;
}

#define RETA_GROUPS (SHIM_RETA_MAX / RTE_ETH_RETA_GROUP_SIZE)

static void reta_mask(struct rte_eth_rss_reta_entry64 *groups, uint16_t n)
{
	memset(groups, 0, sizeof(*groups) * RETA_GROUPS);
	for (uint16_t i = 0; i < n; i++)
		groups[i / RTE_ETH_RETA_GROUP_SIZE].mask |= 1ULL << (i % RTE_ETH_RETA_GROUP_SIZE);
}

int shim_port_reta_set(uint16_t port, const uint16_t *queues, uint16_t n)
{
	struct rte_eth_rss_reta_entry64 groups[RETA_GROUPS];
	if (n > SHIM_RETA_MAX)
		return -E2BIG;
	reta_mask(groups, n);
	for (uint16_t i = 0; i < n; i++)
		groups[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = queues[i];
	return rte_eth_dev_rss_reta_update(port, groups, n);
}

int shim_port_reta_get(uint16_t port, uint16_t *queues, uint16_t n)
{
	struct rte_eth_rss_reta_entry64 groups[RETA_GROUPS];
	if (n > SHIM_RETA_MAX)
		return -E2BIG;
	reta_mask(groups, n);
	int ret = rte_eth_dev_rss_reta_query(port, groups, n);
	if (ret != 0)
		return failure(ret);
	for (uint16_t i = 0; i < n; i++)
		queues[i] = groups[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
	return 0;
}

/* ---- Rings --------------------------------------------------------------------------------- */

struct rte_ring *shim_ring_create(const char *name, uint32_t slots, int32_t socket, int *error)
{
	struct rte_ring *ring = rte_ring_create(name, slots, socket,
		RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
	*error = ring == NULL ? failure(-1) : 0;
	return ring;
}

void shim_ring_free(struct rte_ring *ring)
{
	rte_ring_free(ring);
}

uint32_t shim_ring_take(struct rte_ring *ring, struct rte_mbuf **mbufs, uint32_t n)
{
	return rte_ring_dequeue_burst(ring, (void **)mbufs, n, NULL);
}

int shim_ring_port(const char *name, struct rte_ring **rx, struct rte_ring **tx, uint16_t queues,
	uint16_t *port)
{
	rte_errno = 0;
	int ret = rte_eth_from_rings(name, rx, queues, tx, queues, 0);
	if (ret < 0)
		return failure(ret);
	*port = (uint16_t)ret;
	return 0;
}
