using System.Net;

namespace ShardForge.Network;

/// <summary>What a node says of itself before anything else.</summary>
internal sealed record HandshakeHello
{
    /// <summary>Longest name or id, in bytes of UTF-8.</summary>
    public const int NameBytesMax = 255;

    /// <summary>Empty: the node belongs to no formed cluster yet.</summary>
    public Guid ClusterId { get; init; }

    public required string ClusterName { get; init; }

    public required string NodeId { get; init; }

    /// <summary>Random id of the data directory (R38).</summary>
    public Guid InstanceId { get; init; }

    /// <summary>How often the directory was opened (R38).</summary>
    public ulong OpenCounter { get; init; }

    /// <summary>End of the node log, rising for the life of a directory (R38).</summary>
    public ulong LogEnd { get; init; }

    /// <summary>Highest cluster feature level that the node knows (R42).</summary>
    public uint FeatureLevel { get; init; }

    public PeerRole Role { get; init; } = PeerRole.Peer;

    /// <summary>What the dialling side wants of this connection; the network sets it.</summary>
    public HandshakePurpose Purpose { get; init; } = HandshakePurpose.Link;

    /// <summary>Where others reach the node; null: it has no listener.</summary>
    public EndPoint? AdvertisedEndPoint { get; init; }
}

internal enum PeerRole : byte
{
    Peer = 1,
}

internal enum HandshakePurpose : byte
{
    /// <summary>A lasting link of <c>PeerNetwork.SetAddress</c>.</summary>
    Link = 1,

    /// <summary>One request to an address, from a node that may not know who is there.</summary>
    Call = 2,

    /// <summary>Only to exchange the hellos.</summary>
    Probe = 3,
}

/// <summary>Decides whom this node talks to. Called for both sides of a connection, on any thread; must be quick.</summary>
internal interface IHandshakePolicy
{
    /// <summary>Called with the other side's hello, after magic, checksum and version were found right.</summary>
    /// <param name="remote">What the other side says of itself. Its <see cref="HandshakeHello.Purpose"/> is the connection's.</param>
    /// <param name="direction">Who dialled.</param>
    HandshakeVerdict Check(HandshakeHello remote, LinkDirection direction);
}

/// <summary>Accept, or a refusal with its reason, which the other side is told.</summary>
internal readonly record struct HandshakeVerdict(RefusalCode Code, string Text)
{
    public static HandshakeVerdict Accept => default;

    public bool IsAccepted => Code == RefusalCode.None;

    public static HandshakeVerdict Refuse(RefusalCode code, string text) => new(code, text);
}
