import Glibc
import HostIO
import Primitives

/// Image files: raw ones are read here, qcow2 through qemu-img when it is installed.
enum ImageFile {
    /// What an image may be given as.
    enum Format: String { case raw, qcow2 }

    /// Opens an image for reading.
    ///
    /// Nothing is guessed from content that a guest may have written: a file is raw unless its name or the user says
    /// qcow2. A file that claims to be qcow2 though nobody said so is refused, because one of the two is a mistake.
    static func source(_ path: String, format: String?, _ context: Context) throws(ToolError) -> any ContentSource {
        if isDirectory(path) {
            if exists(path + "/volume.meta") {
                throw ToolError(
                    .unsupported,
                    "\(printable(path)) is a Longhorn replica: this version imports raw and qcow2 files only")
            }
            throw ToolError(
                .usage, "\(printable(path)) is a directory: give an image file, or 'create --from' for a volume")
        }
        let file = try RawFile.open(path, writable: false)
        switch try decide(format, file) {
        case .raw: return FileSource(file)
        case .qcow2: return try converted(path, context)
        }
    }

    private static func decide(_ format: String?, _ file: RawFile) throws(ToolError) -> Format {
        if let format {
            guard let known = Format(rawValue: format) else {
                throw ToolError(.usage, "no format '\(printable(format))': write raw or qcow2")
            }
            return known
        }
        if file.path.hasSuffix(".qcow2") { return .qcow2 }
        let head = ByteBuffer(count: 4)
        try file.read(at: 0, into: head.bytes)
        guard !head.readable.elementsEqual([0x51, 0x46, 0x49, 0xFB]) else {
            throw ToolError(
                .usage,
                "\(printable(file.path)) begins like a qcow2 image: say --format qcow2, or --format raw for its bytes as they are"
            )
        }
        return .raw
    }

    /// A raw copy of a qcow2 image, sparse, in a temporary file.
    private static func converted(_ path: String, _ context: Context) throws(ToolError) -> any ContentSource {
        try checkStandsAlone(path)
        let temporary = temporaryPath(
            near: (getenv("TMPDIR").map { String(cString: $0) } ?? "/var/tmp") + "/image", context)
        context.detail("converting \(path) to \(temporary)")
        let code = try ChildProcess.run(
            "qemu-img", ["convert", "-f", "qcow2", "-O", "raw", imageName(path), imageName(temporary)])
        guard code == 0 else {
            unlink(temporary)
            throw ToolError(
                code == 130 ? .interrupted : .failed,
                "qemu-img could not convert \(printable(path)) (exit code \(code))")
        }
        do throws(ToolError) {
            return FileSource(try RawFile.open(temporary, writable: false), name: path, temporary: temporary)
        } catch {
            unlink(temporary)
            throw error
        }
    }

    /// An image that names other files could read any file of ours into the volume.
    private static func checkStandsAlone(_ path: String) throws(ToolError) {
        let (code, bytes) = try ChildProcess.output(
            "qemu-img", ["info", "-f", "qcow2", "--output=json", imageName(path)])
        guard code == 0, let info = try? JSON(parsing: bytes, depthLimit: 16) else {
            throw ToolError(.unsupported, "\(printable(path)) is no qcow2 image that qemu-img can read")
        }
        for key in ["backing-filename", "full-backing-filename"] {
            if let other = info[key]?.text {
                throw ToolError(
                    .usage,
                    "\(printable(path)) stands on the file \(printable(other)): make one image of both first, by 'qemu-img convert'"
                )
            }
        }
        if let other = info["format-specific"]?["data"]?["data-file"]?.text {
            throw ToolError(
                .usage,
                "\(printable(path)) keeps its data in \(printable(other)): make one image of both first, by 'qemu-img convert'"
            )
        }
    }

    /// Makes a qcow2 image of a raw file.
    static func convertToQcow2(_ raw: String, _ target: String) throws(ToolError) {
        let code = try ChildProcess.run(
            "qemu-img", ["convert", "-f", "raw", "-O", "qcow2", imageName(raw), imageName(target)])
        guard code == 0 else {
            throw ToolError(.failed, "qemu-img could not write \(printable(target)) (exit code \(code))")
        }
    }

    /// qemu-img takes words with a colon for protocols unless `file:` stands in front.
    private static func imageName(_ path: String) -> String { "file:" + absolutePath(path) }

    /// A new name beside `path`, hidden.
    static func temporaryPath(near path: String, _ context: Context) -> String {
        let (directory, name) = split(path)
        return "\(directory)/.\(name).\(hexadecimal(context.host.random64()).prefix(8)).part"
    }
}
