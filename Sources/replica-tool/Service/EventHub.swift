import Control
import HostIO
import Primitives
import Replication
import Storage

/// Hands every change of the volume to all who follow.
final class EventHub: Sendable {
    private struct State {
        var next = 0
        /// The last `eventLimit` events; who falls further behind misses some and is told so.
        var events: [JSON] = []
        var isClosed = false
    }
    private let state = Guarded(State())
    private let host: any Host

    init(host: any Host) { self.host = host }

    func publish(_ event: String, _ object: String, _ name: String, _ more: JSON) {
        let json = EventHub.json(event, object, name, more, at: host.wallClock())
        state.withLock { state in
            state.events.append(json)
            state.next += 1
            if state.events.count > eventLimit { state.events.removeFirst() }
        }
        state.wakeAll()
    }

    static func json(_ event: String, _ object: String, _ name: String, _ more: JSON, at time: WallTime) -> JSON {
        var members: [JSON.Member] = [
            .init("schema_version", schemaVersion), .init("event", .string(event)), .init("object", .string(object)),
            .init("name", .string(name)), .init("time", .string(time.rfc3339)),
        ]
        members += more.members ?? []
        return .object(members)
    }

    /// The place behind the newest event.
    var position: Int { state.withLock { $0.next } }

    /// The events from `position` on, the place behind them, and how many were missed; empty after a second without
    /// one; nil once the hub is closed.
    func events(from position: Int) -> (events: [JSON], position: Int, missed: Int)? {
        let found = state.wait(forNs: 1_000_000_000) { state -> (events: [JSON], position: Int, missed: Int)?? in
            if state.next > position {
                let first = state.next - state.events.count
                return .some((Array(state.events[max(0, position - first)...]), state.next, max(0, first - position)))
            }
            return state.isClosed ? .some(nil) : nil
        }
        return found ?? ([], position, 0)
    }

    func close() {
        state.withLock { $0.isClosed = true }
        state.wakeAll()
    }
}

private let eventLimit = 1024

extension VolumeConversation {
    /// First what there is, one `exists` each, then what changes, until the client or the volume goes.
    func follow(_ arguments: Arguments, _ channel: any ControlChannel) throws(ToolError) -> JSON {
        let hub = service.events
        var position = hub.position
        let now = service.host.wallClock()
        let status = service.status()
        var state = status.state
        var work = status.work
        let volume = engine.identifier.description
        let existing =
            [
                EventHub.json(
                    "exists", "volume", volume, ["state": .string(state), "size": JSON(engine.size)], at: now),
                EventHub.json(
                    "exists", "replica", engine.replicaIdentifier.description, ["state": .string(state)], at: now),
            ]
            + engine.snapshots().map {
                EventHub.json("exists", "snapshot", $0.name, ["revision": JSON($0.revision)], at: now)
            }
        for event in existing where channel.event(event) { return [:] }
        if arguments.flag("now") { return [:] }
        while !channel.isClosed, let found = hub.events(from: position) {
            position = found.position
            if found.missed > 0 {
                let lost = EventHub.json(
                    "change", "volume", volume, ["missed_events": JSON(found.missed)], at: service.host.wallClock())
                if channel.event(lost) { break }
            }
            for event in found.events where channel.event(event) { return [:] }
            let status = service.status()
            guard status.state != state || status.work != work else { continue }
            state = status.state
            work = status.work
            let change = EventHub.json(
                "change", "volume", volume,
                ["state": .string(state), "cause": JSON(status.cause), "work": JSON(work)], at: service.host.wallClock()
            )
            if channel.event(change) { break }
        }
        return [:]
    }
}
