using Microsoft.Extensions.Logging;

namespace ShardForge.Network;

/// <summary>What the peer links log: changes of state, never a line per request. Event ids 2000 to 2099.</summary>
internal static partial class NetworkLog
{
    [LoggerMessage(2000, LogLevel.Information, "{Node}: listening for peers on {EndPoint}")]
    public static partial void Listening(ILogger logger, string node, string endPoint);

    [LoggerMessage(2001, LogLevel.Warning, "{Node}: the listener on {EndPoint} is reachable beyond this machine, and peer links are neither encrypted nor authenticated")]
    public static partial void ListeningBeyondLoopback(ILogger logger, string node, string endPoint);

    [LoggerMessage(2002, LogLevel.Information, "{Node}: link to {Peer} at {EndPoint} is open")]
    public static partial void LinkOpened(ILogger logger, string node, string peer, string endPoint);

    [LoggerMessage(2003, LogLevel.Information, "{Node}: link to {Peer} was lost: {Reason}")]
    public static partial void LinkLost(ILogger logger, string node, string peer, string reason);

    [LoggerMessage(2004, LogLevel.Information, "{Node}: {Peer} at {EndPoint} is not reached, and is tried again: {Reason}")]
    public static partial void LinkDown(ILogger logger, string node, string peer, string endPoint, string reason);

    [LoggerMessage(2005, LogLevel.Warning, "{Node}: no talk with {Peer} at {EndPoint}: {Code}, said by {By}: {Reason}")]
    public static partial void Refused(ILogger logger, string node, string peer, string endPoint, RefusalCode code, RefusedBy by, string reason);

    [LoggerMessage(2006, LogLevel.Warning, "The handler of {Service} failed on a request of {Peer}")]
    public static partial void HandlerFailed(ILogger logger, PeerService service, string peer, Exception error);

    [LoggerMessage(2007, LogLevel.Error, "The {Connection} failed in a way that is not the network's")]
    public static partial void ConnectionFailed(ILogger logger, string connection, Exception error);

    [LoggerMessage(2008, LogLevel.Warning, "{Node}: accepting a connection failed, and goes on: {Reason}")]
    public static partial void AcceptFailed(ILogger logger, string node, string reason);

    [LoggerMessage(2009, LogLevel.Error, "{Node}: a listener to the network's events failed")]
    public static partial void EventFailed(ILogger logger, string node, Exception error);

    [LoggerMessage(2010, LogLevel.Warning, "{Node}: closing was cut short: handlers did not end within {Limit}")]
    public static partial void CloseCutShort(ILogger logger, string node, TimeSpan limit);
}
