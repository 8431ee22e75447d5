import Foundation
import Testing

extension EndToEnd {
    /// Real file systems on a loop device on the volume: what most people put there.
    @Suite(.needsLoopDevices) struct FileSystems {
        struct Kind: CustomTestStringConvertible {
            var name: String
            var sector: Int
            var testDescription: String { "\(name), sectors of \(sector)" }
        }
        static let kinds = ["ext4", "xfs"].flatMap { name in [512, 4096].map { Kind(name: name, sector: $0) } }

        private func make(_ kind: Kind, on device: LoopDevice, in scratch: Scratch) throws {
            try scratch.must("mkfs.\(kind.name)", "-q", device.path)
        }

        /// A read-only check of the unmounted file system; nothing may be wrong.
        private func expectClean(_ kind: Kind, _ device: LoopDevice, in scratch: Scratch) throws {
            let check = kind.name == "ext4" ? ["e2fsck", "-f", "-n"] : ["xfs_repair", "-n"]
            let result = try Running(check + [device.path], in: scratch).wait()
            #expect(result.succeeded, "\(result)")
        }

        private func expectFiles(_ files: [(name: String, sum: String)], in folder: String, _ scratch: Scratch) throws {
            let list = scratch.newPath("sums")
            try files.map { "\($0.sum)  \(folder)/\($0.name)\n" }.joined().write(
                toFile: list, atomically: false, encoding: .utf8)
            let result = try scratch.run("sha256sum", "--check", "--quiet", list)
            #expect(result.succeeded, "\(result)")
        }

        @Test(arguments: kinds)
        func `files survive unmounting, trimming and remounting, and fsck finds nothing`(kind: Kind) throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "512M")
                let folder = try scratch.folder("fs")
                var files: [(name: String, sum: String)] = []
                try volume.mounted {
                    let device = try LoopDevice(over: volume.file, in: scratch, sectorSize: kind.sector)
                    try make(kind, on: device, in: scratch)
                    try scratch.must("mount", device.path, folder)
                    try scratch.must("cp", "-r", packageRoot + "/Sources", folder)
                    files = try scratch.writeFiles(into: folder, count: 200)
                    try volume.snapshot("files")
                    try scratch.must("rm", "-r", folder + "/Sources")
                    try scratch.must("sync", "-f", folder)
                    try scratch.must("fstrim", "-v", folder)
                    try expectFiles(files, in: folder, scratch)
                    try scratch.must("umount", folder)
                    try expectClean(kind, device, in: scratch)
                    try device.detach()
                }
                try volume.mounted {
                    let device = try LoopDevice(over: volume.file, in: scratch, sectorSize: kind.sector)
                    try scratch.must("mount", device.path, folder)
                    try expectFiles(files, in: folder, scratch)
                    try scratch.must("umount", folder)
                    try expectClean(kind, device, in: scratch)
                    try device.detach()
                }
            }
        }

        @Test(arguments: kinds)
        func `what was synced survives a kill of the daemon in mid-load, and fsck finds nothing`(kind: Kind) throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "512M")
                let folder = try scratch.folder("fs")
                try volume.mount()
                let device = try LoopDevice(over: volume.file, in: scratch, sectorSize: kind.sector)
                try make(kind, on: device, in: scratch)
                try scratch.must("mount", device.path, folder)
                let files = try scratch.writeFiles(into: folder, count: 250, killing: volume.daemon())
                try scratch.must("umount", "-l", folder)
                try device.detach()
                try volume.killDaemon()
                try volume.mounted {
                    let device = try LoopDevice(over: volume.file, in: scratch, sectorSize: kind.sector)
                    // Mounting replays the file system's own log; afterwards it must be whole.
                    try scratch.must("mount", device.path, folder)
                    try expectFiles(files, in: folder, scratch)
                    try scratch.must("umount", folder)
                    try expectClean(kind, device, in: scratch)
                    try device.detach()
                }
                try volume.tool(["verify", volume.path])
            }
        }

        @Test func `a snapshot of a mounted file system holds its files, frozen or not`() throws {
            try Scratch.use { scratch in
                let volume = try Volume(in: scratch, size: "256M")
                let folder = try scratch.folder("fs"), old = try scratch.folder("old")
                try volume.mounted {
                    let device = try LoopDevice(over: volume.file, in: scratch)
                    try scratch.must("mkfs.ext4", "-q", device.path)
                    try scratch.must("mount", device.path, folder)
                    let files = try scratch.writeFiles(into: folder, count: 100)
                    try volume.tool(["snapshot", "create", volume.path + "@frozen", "--freeze"])
                    // The file system must be writable again when the tool returns.
                    try scratch.must("sh", "-c", "rm \"$1\"/file-* && sync -f \"$1\"", "sh", folder)
                    let past = try LoopDevice(over: volume.snapshotFile("frozen"), in: scratch, readOnly: true)
                    // Frozen means written out: it mounts without its log.
                    try scratch.must("mount", "-o", "ro,noload", past.path, old)
                    try expectFiles(files, in: old, scratch)
                    try scratch.must("umount", old)
                    try expectClean(Kind(name: "ext4", sector: 4096), past, in: scratch)
                    try past.detach()
                    try scratch.must("umount", folder)
                    try device.detach()
                }
            }
        }
    }
}
