using System.Net;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace ShardForge.Network;

/// <summary>What a <c>PeerNetwork</c> needs.</summary>
internal sealed record PeerNetworkOptions
{
    public required ITransport Transport { get; init; }

    /// <summary>What this node says of itself; asked for every handshake.</summary>
    public required Func<HandshakeHello> LocalHello { get; init; }

    public required IHandshakePolicy Policy { get; init; }

    /// <summary>What is bound; null: no listener.</summary>
    public EndPoint? ListenEndPoint { get; init; }

    public IConnectionSecurity? Security { get; init; }

    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    /// <summary>Seed of the jitter of reconnects and of the connections' nonces.</summary>
    public int Seed { get; init; }

    public ILogger Logger { get; init; } = NullLogger.Instance;

    public Limits Limits { get; init; } = Limits.Default;

    /// <summary>Protocol versions of this node; other than the default in tests only.</summary>
    public ProtocolRange Protocol { get; init; } = ProtocolRange.Supported;

    /// <summary>A frame's largest size, header included. Larger messages are cut. Both sides must agree.</summary>
    public int FrameBytesMax { get; init; } = 64 * 1024;

    /// <summary>Largest message, over all its fragments.</summary>
    public int MessageBytesMax { get; init; } = 96 * 1024 * 1024;

    /// <summary>Connections that others opened, at most.</summary>
    public int IncomingConnectionsMax { get; init; } = 1_024;

    /// <summary>Of those, ones that have not finished their handshake.</summary>
    public int HandshakesMax { get; init; } = 64;

    /// <summary>Bound of opening a connection, and of the handshake on it, each.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How often a quiet link is pinged.</summary>
    public TimeSpan HeartbeatInterval { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>A link on which no valid frame came for so long is torn down.</summary>
    public TimeSpan SilenceAlarm { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Wait before the second attempt to connect in a row; doubles up to <see cref="ReconnectDelayMax"/>, each with jitter.</summary>
    public TimeSpan ReconnectDelayMin { get; init; } = TimeSpan.FromMilliseconds(20);

    public TimeSpan ReconnectDelayMax { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>Bound of a dispose: goodbyes, then running handlers.</summary>
    public TimeSpan CloseTimeout { get; init; } = TimeSpan.FromSeconds(2);
}

/// <summary>Versions of the frame protocol that a node speaks, both ends included.</summary>
internal readonly record struct ProtocolRange(ushort Lowest, ushort Highest)
{
    public static ProtocolRange Supported => new(1, 1);

    public override string ToString() => Lowest == Highest ? $"{Lowest}" : $"{Lowest} to {Highest}";

    /// <summary>The highest version that both speak.</summary>
    public bool TryAgree(ProtocolRange other, out ushort version)
    {
        version = Math.Min(Highest, other.Highest);
        return version >= Math.Max(Lowest, other.Lowest);
    }
}
