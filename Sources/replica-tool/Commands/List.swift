import ArgumentParser
import Glibc
import HostIO
import Primitives
import Replication

struct List: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Find the volumes and replicas under a directory.",
        discussion: "Reads names and records only; nothing is opened. Links and other file systems are not followed.")

    @Argument(help: "Where to look; by default here.") var directory: String = "."
    @OptionGroup var globals: Globals

    /// Deeper than people keep volumes, and short of walking a whole disk.
    private static let depthLimit = 6

    func execute(_ context: Context) throws(ToolError) -> Exit {
        guard exists(directory) else {
            throw ToolError(.notFound, "\(printable(directory)): no such directory; check the path")
        }
        guard isDirectory(directory) else {
            throw ToolError(.usage, "\(printable(directory)) is a file: give a directory")
        }
        guard access(directory, R_OK | X_OK) == 0 else {
            throw ToolError(.failed, "cannot read \(printable(directory)): \(errorText(errno))")
        }
        var found: [JSON] = []
        let mounts = MountEntry.all().filter(\.isOurs)
        search(absolutePath(directory), 0, mounts, context.host, &found)
        if context.isJSON {
            Output.document(.document(["items": .array(found)]))
            return .done
        }
        var table = Table([("KIND", .left), ("PATH", .left), ("SIZE", .right), ("UUID", .left), ("MOUNTED AT", .left)])
        for item in found {
            table.add([
                item["kind"]?.text ?? "-", printable(item["path"]?.text ?? "-"), human(item["size"]) ?? "-",
                item["uuid"]?.text ?? "-", printable(item["mountpoint"]?.text ?? "-"),
            ])
        }
        Output.write(table.text)
        return .done
    }

    private func search(
        _ path: String, _ depth: Int, _ mounts: [MountEntry], _ host: any Host, _ found: inout [JSON]
    ) {
        let mountpoint = JSON(mounts.last { $0.source == path }?.mountpoint)
        if exists(path + "/" + VolumeDirectory.recordName) {
            // A record that cannot be read still marks a volume.
            let record = try? VolumeDirectory(path: path, host: host).record
            found.append([
                "kind": "volume", "path": .string(path), "size": record.map { JSON($0.size) } ?? .null,
                "uuid": JSON(record?.identifier.description), "labels": JSON(record?.labels ?? [:]),
                "mountpoint": mountpoint,
            ])
            return
        }
        if exists(path + "/super") {
            found.append(["kind": "replica", "path": .string(path), "mountpoint": mountpoint])
            return
        }
        if depth == List.depthLimit || mounts.contains(where: { $0.mountpoint == path }) { return }
        for name in namesInDirectory(path) {
            var info = stat()
            let below = path == "/" ? "/" + name : path + "/" + name
            guard lstat(below, &info) == 0, info.st_mode & S_IFMT == S_IFDIR else { continue }
            search(below, depth + 1, mounts, host, &found)
        }
    }
}
