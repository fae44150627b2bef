using System.Security.Cryptography.X509Certificates;

namespace ShardForge;

/// <summary>Mutual TLS on the links between nodes: each side shows a certificate and checks the other's.</summary>
/// <remarks>
/// <para>A peer is let in if its certificate chains to one of <see cref="TrustedRoots"/>, or is pinned by <see cref="PinnedThumbprints"/>, and is valid now. The name in
/// it does not matter: whoever holds such a certificate can be any node, so use an authority that signs for this cluster only. All nodes need it: one without does not
/// talk to one with.</para>
/// <para>The functions are called for each new connection, from any thread, so a certificate is changed without a restart: return the new one. Connections
/// that are open stay. Keep what is returned undisposed while the node runs.</para></remarks>
public sealed record PeerTlsOptions
{
    /// <summary>This node's certificate, with its private key; used for both roles, so its extended key usages, if it has any, name server and client authentication.</summary>
    public required Func<X509Certificate2> Certificate { get; init; }

    /// <summary>Certificates of the authorities whose signature is trusted; those of the machine are not. Null: none.</summary>
    public Func<X509Certificate2Collection>? TrustedRoots { get; init; }

    /// <summary>SHA-256 thumbprints, in hex, of certificates that are trusted whoever signed them. Null: none.</summary>
    public Func<IReadOnlyCollection<string>>? PinnedThumbprints { get; init; }

    /// <summary>Whether revocation is looked up, which asks the authority over the network. Default: no.</summary>
    public X509RevocationMode Revocation { get; init; } = X509RevocationMode.NoCheck;

    /// <exception cref="ConfigurationException">It cannot work.</exception>
    internal void Validate()
    {
        if (TrustedRoots is null && PinnedThumbprints is null)
            throw Refused("trusts nobody; set TrustedRoots or PinnedThumbprints", null);
        X509Certificate2 certificate;
        try
        {
            certificate = Certificate();
        }
        catch (Exception error) when (error is not OutOfMemoryException)
        {
            throw Refused($"gives no certificate: {error.Message}", error);
        }

        if (certificate is null || !certificate.HasPrivateKey)
            throw Refused("gives a certificate without its private key", null);
    }

    private static ConfigurationException Refused(string what, Exception? inner) => new("PeerTls", $"PeerTls {what}. Nothing was opened or changed.", inner);
}
