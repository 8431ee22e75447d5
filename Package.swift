// swift-tools-version: 6.2
import PackageDescription

/// Checks that hold for every Swift target of the project.
let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "replica-store",
    products: [
        .executable(name: "replica-tool", targets: ["replica-tool"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        // C: one target for each library, and one for the calls that Glibc does not show to Swift.
        .target(name: "CLinux"),
        .systemLibrary(
            name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        .systemLibrary(name: "CFuse3", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),

        // The store, from the bottom up. An arrow never points up; Tests/Tidy holds that.
        .target(name: "Primitives", dependencies: ["CXXHash"], swiftSettings: strict),
        .target(name: "Format", dependencies: ["Primitives"], swiftSettings: strict),
        .target(name: "HostIO", dependencies: ["Primitives", "CLinux"], swiftSettings: strict),
        .target(name: "Storage", dependencies: ["Format", "HostIO", "Primitives"], swiftSettings: strict),
        .target(
            name: "Replication", dependencies: ["Storage", "Format", "HostIO", "Primitives"],
            swiftSettings: strict),
        .target(name: "Control", dependencies: ["HostIO", "Primitives"], swiftSettings: strict),
        .target(
            name: "FuseFrontend", dependencies: ["CFuse3", "Primitives"],
            swiftSettings: strict),
        .executableTarget(
            name: "replica-tool",
            dependencies: [
                "FuseFrontend", "Control", "Replication", "Storage", "Format", "HostIO", "Primitives",
                argumentParser, logging,
            ],
            swiftSettings: strict),

        // Doubles for files, clock and randomness, with faults.
        .target(name: "SimulatedHost", dependencies: ["HostIO", "Primitives"], swiftSettings: strict),

        .testTarget(name: "PrimitivesTests", dependencies: ["Primitives"], swiftSettings: strict),
        .testTarget(name: "FormatTests", dependencies: ["Format", "Primitives"], swiftSettings: strict),
        .testTarget(
            name: "HostIOTests", dependencies: ["HostIO", "SimulatedHost", "CLinux", "Primitives"],
            swiftSettings: strict),
        .testTarget(
            name: "SimulatedHostTests", dependencies: ["SimulatedHost", "HostIO", "Primitives"],
            swiftSettings: strict),
        .testTarget(
            name: "StorageTests",
            dependencies: ["Storage", "SimulatedHost", "Format", "HostIO", "Primitives"],
            swiftSettings: strict),
        .testTarget(
            name: "ReplicationTests",
            dependencies: ["Replication", "SimulatedHost", "Storage", "Format", "HostIO", "Primitives"],
            swiftSettings: strict),
        .testTarget(name: "ControlTests", dependencies: ["Control", "HostIO", "Primitives"], swiftSettings: strict),
        .testTarget(
            name: "ReplicaToolTests",
            dependencies: ["replica-tool", "Control", "Replication", "Storage", "HostIO", "Primitives"],
            swiftSettings: strict),
        .testTarget(
            name: "CrashTests",
            dependencies: ["Replication", "SimulatedHost", "Storage", "Format", "HostIO", "Primitives"],
            swiftSettings: strict),
        // A volume in memory to mount, and a process that serves one, for tests and measurements of the mount.
        .target(
            name: "FuseTestSupport", dependencies: ["FuseFrontend", "Primitives"], path: "Tests/FuseTestSupport",
            swiftSettings: strict),
        .executableTarget(
            name: "fuse-bench", dependencies: ["FuseTestSupport", "FuseFrontend", "Primitives"],
            path: "Tests/FuseBench", swiftSettings: strict),
        .target(name: "CMountTest", path: "Tests/CMountTest"),
        .testTarget(
            name: "FuseFrontendTests",
            dependencies: ["FuseFrontend", "FuseTestSupport", "Primitives", "CMountTest", "fuse-bench"],
            swiftSettings: strict),
        .testTarget(name: "TidyTests", swiftSettings: strict),

        // The built tool through the door that users use; the C target is what a user's program calls.
        .target(name: "CEndToEnd", path: "Tests/CEndToEnd"),
        .testTarget(name: "EndToEndTests", dependencies: ["CEndToEnd"], exclude: ["Scripts"], swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
