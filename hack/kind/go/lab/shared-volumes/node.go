package main

// The node's part: mounts the folder of a volume where the kubelet wants it. It keeps nothing in memory; what is mounted is
// read from the kernel, so that it may be stopped at any time. It tells the kubelet of itself, which others leave to a sidecar.

import (
	"context"
	"errors"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	kubeletFolder      = "/var/lib/kubelet/"
	driverSocket       = kubeletFolder + "plugins/" + driver + "/csi.sock"
	registrationSocket = kubeletFolder + "plugins_registry/" + driver + "-reg.sock"
)

type node struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	name string
}

type registrar struct {
	registration.UnimplementedRegistrationServer
}

func serveNode(name string) {
	if name == "" {
		log.Fatal("NODE_NAME is not set")
	}
	ended := make(chan error)
	// The driver answers before the kubelet hears of it.
	listen(driverSocket, ended, func(server *grpc.Server) {
		csi.RegisterIdentityServer(server, &node{name: name})
		csi.RegisterNodeServer(server, &node{name: name})
	})
	listen(registrationSocket, ended, func(server *grpc.Server) {
		registration.RegisterRegistrationServer(server, &registrar{})
	})
	log.Fatal(<-ended)
}

func listen(path string, ended chan<- error, register func(*grpc.Server)) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		log.Fatal(err)
	}
	// Of a run before this one.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go func() { ended <- server.Serve(listener) }()
}

func (*registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              driver,
		Endpoint:          driverSocket,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (*registrar) NotifyRegistrationStatus(_ context.Context, said *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	// The kubelet may not have been ready: it is told again when this program is started again.
	if !said.PluginRegistered {
		log.Fatalf("the kubelet does not take the driver: %s", said.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func (*node) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driver, VendorVersion: "1"}, nil
}

func (*node) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{{
		Type: &csi.PluginCapability_VolumeExpansion_{
			VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE},
		},
	}}}, nil
}

func (*node) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.name}, nil
}

func (*node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{{
		Type: &csi.NodeServiceCapability_Rpc{
			Rpc: &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_EXPAND_VOLUME},
		},
	}}}, nil
}

func (*node) NodePublishVolume(_ context.Context, wanted *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	folder := filepath.Join(sharedFolder, filepath.Base(wanted.GetVolumeId()))
	if _, err := os.Stat(folder); err != nil {
		return nil, status.Errorf(codes.NotFound, "no folder of volume %s: %v", wanted.GetVolumeId(), err)
	}
	target := wanted.GetTargetPath()
	mounted, err := isMounted(target)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if mounted {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := syscall.Mount(folder, target, "", syscall.MS_BIND, ""); err != nil {
		return nil, status.Errorf(codes.Internal, "mount %s at %s: %v", folder, target, err)
	}
	if wanted.GetReadonly() {
		if err := syscall.Mount("", target, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			return nil, status.Errorf(codes.Internal, "make %s read-only: %v", target, err)
		}
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (*node) NodeUnpublishVolume(_ context.Context, wanted *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	target := wanted.GetTargetPath()
	for {
		mounted, err := isMounted(target)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if !mounted {
			break
		}
		if err := syscall.Unmount(target, 0); err != nil {
			return nil, status.Errorf(codes.Internal, "unmount %s: %v", target, err)
		}
	}
	// Never with what is below it: only an empty folder is ours.
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (*node) NodeExpandVolume(_ context.Context, wanted *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	size := wanted.GetCapacityRange().GetRequiredBytes()
	log.Printf("%s has grown to %d bytes at %s", wanted.GetVolumeId(), size, wanted.GetVolumePath())
	return &csi.NodeExpandVolumeResponse{CapacityBytes: size}, nil
}

func isMounted(path string) (bool, error) {
	// Fields of a line are parted by blanks; the fifth is the mount point. Paths of the kubelet have no blanks in them.
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for _, line := range strings.Split(string(table), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == path {
			return true, nil
		}
	}
	return false, nil
}
