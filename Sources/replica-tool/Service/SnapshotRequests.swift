import Control
import HostIO
import Primitives
import Replication
import Storage

/// What can be asked of a volume's snapshots.
extension VolumeConversation {
    func listSnapshots(_ arguments: Arguments, _ channel: any ControlChannel) throws(ToolError) -> JSON {
        let snapshots = engine.snapshots()
        var usage: [Identifier: LayerUsage] = [:]
        if arguments.flag("usage") {
            let layers = try during("cannot measure the layers of \(service.target.path)", engine.usage)
            for layer in layers { usage[layer.layer] = layer }
        }
        return try send(snapshots.map { $0.json(usage[$0.layer]) }, channel)
    }

    func createSnapshot(_ arguments: Arguments) throws(ToolError) -> JSON {
        let name = try arguments.name("name")
        var frozen: FrozenFileSystems?
        if arguments.flag("freeze") {
            guard let mount = service.mount else {
                throw ToolError(.usage, "--freeze needs a mounted volume: nothing can be loop-mounted from it now")
            }
            frozen = try FrozenFileSystems(backedBy: mount.mountpoint + "/volume", host: service.host)
        }
        // Thawed on every way out; a watchdog and the client thaw too, should this process be stuck or killed.
        defer { frozen?.thaw() }
        let info = try during("cannot create \(service.target.path)@\(name)") { () throws(StoreError) in
            try engine.createSnapshot(name: name, labels: arguments.texts("labels"))
        }
        service.events.publish("create", "snapshot", name, ["revision": JSON(info.revision)])
        return info.json(nil).adding("frozen", .array((frozen?.mountpoints ?? []).map { .string($0) }))
    }

    func deleteSnapshot(_ arguments: Arguments, _ channel: any ControlChannel) throws(ToolError) -> JSON {
        let name = try arguments.name("name")
        try requireSnapshot(name)
        service.events.publish("change", "snapshot", name, ["state": "deleting"])
        // What its layer shares with no other is given back; bytes counted by the disk lag behind, by a second and more.
        let freed = try? engine.usage().first { $0.snapshot == name }?.freedIfDeletedBytes
        try during("cannot delete \(service.target.path)@\(name)") { () throws(StoreError) in
            try engine.deleteSnapshot(name: name, rate: arguments.optionalCount("rate"), progress: progress(channel))
        }
        service.events.publish("destroy", "snapshot", name, [:])
        guard let freed else { return ["name": .string(name)] }
        return ["name": .string(name), "freed": JSON(freed)]
    }

    func revert(_ arguments: Arguments) throws(ToolError) -> JSON {
        let name = try arguments.name("name")
        try requireSnapshot(name)
        if service.mount != nil, !arguments.flag("online") {
            throw ToolError(
                .inUse,
                "\(service.target.path) is mounted: its content would change below its users; unmount it, or add --online"
            )
        }
        var keep: String?
        if !arguments.flag("discard_head") {
            keep = arguments.optionalText("keep_head") ?? freeName("before-revert")
            if let keep { try Address.checkSnapshotName(keep) }
        }
        // Once before, so that no older page is written into the new content, and once after.
        service.mount?.forgetContent()
        try during("cannot revert \(service.target.path) to \(name)") { () throws(StoreError) in
            try engine.revert(to: name, keepHead: keep)
        }
        service.mount?.forgetContent()
        service.mount?.sizeChanged()
        if let keep { service.events.publish("create", "snapshot", keep, [:]) }
        service.events.publish("change", "volume", engine.identifier.description, ["reverted_to": .string(name)])
        return ["name": .string(name), "kept_head": JSON(keep), "size": JSON(engine.size), "remark": JSON(noteSize())]
    }

    /// `stem-N` with the lowest N that no snapshot has.
    private func freeName(_ stem: String) -> String {
        let taken = Set(engine.snapshots().map(\.name))
        var number = 1
        while taken.contains("\(stem)-\(number)") { number += 1 }
        return "\(stem)-\(number)"
    }

    func renameSnapshot(_ arguments: Arguments) throws(ToolError) -> JSON {
        let name = try arguments.name("name")
        let newName = try arguments.name("new_name")
        try during("cannot rename \(service.target.path)@\(name)") { () throws(StoreError) in
            try engine.renameSnapshot(name, to: newName)
        }
        service.events.publish("destroy", "snapshot", name, ["renamed_to": .string(newName)])
        service.events.publish("create", "snapshot", newName, ["renamed_from": .string(name)])
        return ["name": .string(newName), "old_name": .string(name)]
    }

    func protectSnapshot(_ arguments: Arguments) throws(ToolError) -> JSON {
        let name = try arguments.name("name")
        let isProtected = arguments.flag("protected")
        try during("cannot change \(service.target.path)@\(name)") { () throws(StoreError) in
            try engine.setProtected(name, isProtected)
        }
        service.events.publish("change", "snapshot", name, ["protected": .bool(isProtected)])
        return ["name": .string(name), "protected": .bool(isProtected)]
    }

    func difference(_ arguments: Arguments, _ channel: any ControlChannel) throws(ToolError) -> JSON {
        let older = try arguments.name("from")
        let newer = arguments.optionalText("to")
        try requireSnapshot(older)
        if let newer { try requireSnapshot(newer) }
        let extents = try during("cannot compare \(service.target.path)@\(older)") { () throws(StoreError) in
            try engine.difference(from: older, to: newer)
        }
        var index = 0
        while index < extents.count {
            let end = min(extents.count, index + extentsPerMessage)
            if channel.event(["extents": .array(extents[index..<end].map(\.json))]) {
                throw ToolError(.interrupted, "interrupted")
            }
            index = end
        }
        return ["size": JSON(try view(newer).size), "count": JSON(extents.count)]
    }

    private func requireSnapshot(_ name: String) throws(ToolError) {
        guard engine.snapshots().contains(where: { $0.name == name }) else {
            throw ToolError(
                .notFound,
                "\(service.target.path) has no snapshot '\(printable(name))': see 'replica-tool snapshot list'")
        }
    }
}
