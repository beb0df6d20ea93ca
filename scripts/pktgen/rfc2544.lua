-- RFC 2544 §26.1 and §26.2 with Pktgen-DPDK: for each frame size the highest rate without loss, by
-- halving, and the latency at that rate. Started by `run`, which reads the file RESULTS, a line for each size:
--
--   size sent-pps forwarded-pps lost latency-us
--
-- Port 0 sends to sluiced, port 1 is where the real servers would be.

package.path = package.path .. ";?.lua;/usr/share/pktgen/?.lua;/usr/local/share/pktgen/?.lua"
require "Pktgen"

local SEND, RECEIVE = "0", "1"
local millis = 1000 * tonumber(os.getenv("SECONDS_EACH"))
local settle = 1000
-- Halvings, and the part of the sent frames that may be lost: none.
local steps, tolerated = 10, 0
-- 16 sources and 4,001 ports. Pktgen counts both up with each frame, and 4,001 is prime: 64,016 flows, which
-- fit into the table, and come again and again.
local clients = { first = "198.18.0.1", last = "198.18.0.16" }
local ports = { first = 1024, last = 5024 }
-- Percent of the line rate at which they are opened before anything counts.
local opening = 10

local function setup()
    local vip, port = os.getenv("VIP"), tonumber(os.getenv("VPORT"))
    pktgen.screen("off")
    pktgen.stop("all")
    pktgen.set(SEND, "count", 0)
    pktgen.set(SEND, "burst", 32)
    pktgen.set_mac(SEND, "dst", os.getenv("DUT"))
    pktgen.set_proto(SEND, "udp")
    pktgen.range.dst_mac(SEND, "start", os.getenv("DUT"))
    pktgen.range.ip_proto(SEND, "udp")
    for at, address in pairs({ start = vip, min = vip, max = vip, inc = "0.0.0.0" }) do
        pktgen.range.dst_ip(SEND, at, address)
    end
    for at, address in pairs({ start = clients.first, min = clients.first, max = clients.last, inc = "0.0.0.1" }) do
        pktgen.range.src_ip(SEND, at, address)
    end
    for at, number in pairs({ start = port, min = port, max = port, inc = 0 }) do
        pktgen.range.dst_port(SEND, at, number)
    end
    for at, number in pairs({ start = ports.first, min = ports.first, max = ports.last, inc = 1 }) do
        pktgen.range.src_port(SEND, at, number)
    end
    pktgen.set_range(SEND, "on")
end

-- One size, or IMIX: 7 of 64, 4 of 570, 1 of 1518, of which the pattern is Pktgen's own sequence.
local function resize(size)
    if size ~= "imix" then
        local octets = tonumber(size)
        pktgen.set(SEND, "seq_cnt", 0)
        pktgen.set_range(SEND, "on")
        pktgen.set(SEND, "size", octets)
        for at, value in pairs({ start = octets, min = octets, max = octets, inc = 0 }) do
            pktgen.range.pkt_size(SEND, at, value)
        end
        return
    end
    pktgen.set_range(SEND, "off")
    local vip, port = os.getenv("VIP"), tonumber(os.getenv("VPORT"))
    local mix = { 64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 570, 64 }
    for at, octets in ipairs(mix) do
        pktgen.seqTable(at - 1, SEND, {
            ["eth_dst_addr"] = os.getenv("DUT"),
            ["eth_src_addr"] = "02:00:00:00:00:02",
            ["ip_dst_addr"] = vip,
            ["ip_src_addr"] = "198.18.0." .. at .. "/16",
            ["sport"] = 1024 + at,
            ["dport"] = port,
            ["ethType"] = "ipv4",
            ["ipProto"] = "udp",
            ["vlanid"] = 1,
            ["pktSize"] = octets,
        })
    end
    pktgen.set(SEND, "seq_cnt", #mix)
end

local function stats()
    local sent = pktgen.portStats(SEND, "port")[tonumber(SEND)]
    local received = pktgen.portStats(RECEIVE, "port")[tonumber(RECEIVE)]
    return sent.opackets, received.ipackets
end

-- Sends at this part of the line rate; frames sent and received.
local function trial(rate)
    pktgen.clr()
    pktgen.set(SEND, "rate", rate)
    pktgen.delay(settle)
    pktgen.start(SEND)
    pktgen.delay(millis)
    pktgen.stop(SEND)
    pktgen.delay(settle) -- what is on its way
    return stats()
end

local function latency(rate)
    pktgen.latency(RECEIVE, "enable")
    pktgen.latency(SEND, "enable")
    trial(rate)
    local all = pktgen.pktStats(RECEIVE)[tonumber(RECEIVE)]
    pktgen.latency(SEND, "disable")
    pktgen.latency(RECEIVE, "disable")
    -- Older versions have it beside the other figures, in microseconds, too.
    local found = all.latency and all.latency.avg_us or all.avg_latency
    return found or "-"
end

local results = assert(io.open(os.getenv("RESULTS"), "w"))
setup()
for size in string.gmatch(os.getenv("SIZES"), "%S+") do
    resize(size)
    local kept, lost, rate = 0, 100, 100
    local best_sent, best_received = 0, 0
    trial(opening)
    for _ = 1, steps do
        local sent, received = trial(rate)
        if sent > 0 and sent - received <= sent * tolerated then
            kept, best_sent, best_received = rate, sent, received
        else
            lost = rate
        end
        if kept == 100 then
            break
        end
        rate = (kept + lost) / 2
    end
    local late = "-"
    if kept > 0 then
        late = latency(kept)
    end
    local pps = 1000 / millis
    local line = string.format("%s %.0f %.0f %.0f %s", size, best_sent * pps, best_received * pps, best_sent - best_received, late)
    print(line)
    results:write(line, "\n")
    results:flush()
end
results:close()
pktgen.quit()
