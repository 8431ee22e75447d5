public import FuseFrontend
internal import Primitives

/// A volume of images in memory, with snapshots.
public final class RamVolume: MountedVolume {
    private struct State {
        var change: UInt64 = 0
        var snapshots: [(listed: MountedSnapshot, image: any MountedImage)] = []
        var nextIdentity: UInt64 = 1
    }
    public let live: any MountedImage
    private let state = Guarded(State())
    private let free: MountedSpace

    public init(live: any MountedImage, space: MountedSpace = MountedSpace(available: 5 << 30, total: 9 << 30)) {
        self.live = live
        free = space
    }

    public func addSnapshot(_ name: String, _ image: any MountedImage, createdNs: Int64 = 1_000_000_000) {
        let size = image.size
        state.withLock { state in
            let identity = Identifier(high: 0, low: state.nextIdentity)
            state.nextIdentity += 1
            state.change += 1
            state.snapshots.append(
                (MountedSnapshot(name: name, identity: identity, createdNs: createdNs, size: size), image))
        }
    }

    public func removeSnapshot(_ name: String) {
        state.withLock { state in
            state.change += 1
            state.snapshots.removeAll { $0.listed.name == name }
        }
    }

    public func renameSnapshot(_ name: String, to newName: String) {
        state.withLock { state in
            state.change += 1
            for index in state.snapshots.indices where state.snapshots[index].listed.name == name {
                state.snapshots[index].listed.name = newName
            }
        }
    }

    public var snapshotChanges: UInt64 { state.withLock { $0.change } }
    public func snapshots() throws(MountError) -> [MountedSnapshot] { state.withLock { $0.snapshots.map(\.listed) } }

    public func openSnapshot(named name: String) throws(MountError) -> any MountedImage {
        let found = state.withLock { state in state.snapshots.first { $0.listed.name == name }?.image }
        guard let found else { throw MountError(errno: 2) }
        return found
    }

    public func space() throws(MountError) -> MountedSpace { free }
    public func document(_ which: MountedDocument) -> [UInt8] {
        Array("{\"document\":\"\(which.rawValue)\",\"change\":\(snapshotChanges)}\n".utf8)
    }
}
