// A device plugin for tests: offers each character device FOLDER/accelN as one of RESOURCE, to be seen in the
// pod as /dev/accel/accelN. A device is unhealthy while there is a file FOLDER/accelN.unhealthy.
//
//	device-plugin RESOURCE FOLDER
//
// It registers anew whenever the kubelet has made its socket anew.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	pause    = 200 * time.Millisecond
	endpoint = "aicsweep-test.sock"
)

var isDevice = regexp.MustCompile(`^accel[0-9]+$`)

type plugin struct {
	api.UnimplementedDevicePluginServer
	folder string
}

func (p *plugin) devices() []*api.Device {
	entries, err := os.ReadDir(p.folder)
	if err != nil {
		log.Print(err)
	}
	found := []*api.Device{}
	for _, entry := range entries {
		if !isDevice.MatchString(entry.Name()) {
			continue
		}
		health := api.Healthy
		if _, err := os.Stat(filepath.Join(p.folder, entry.Name()+".unhealthy")); err == nil {
			health = api.Unhealthy
		}
		found = append(found, &api.Device{ID: entry.Name(), Health: health})
	}
	return found
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	var told []*api.Device
	for stream.Context().Err() == nil {
		if now := p.devices(); told == nil || !reflect.DeepEqual(now, told) {
			if err := stream.Send(&api.ListAndWatchResponse{Devices: now}); err != nil {
				return err
			}
			told = now
		}
		time.Sleep(pause)
	}
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	answer := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		given := &api.ContainerAllocateResponse{}
		for _, id := range container.DevicesIds {
			given.Devices = append(given.Devices, &api.DeviceSpec{
				HostPath:      filepath.Join(p.folder, id),
				ContainerPath: "/dev/accel/" + id,
				Permissions:   "rw",
			})
		}
		log.Printf("allocated %v", container.DevicesIds)
		answer.ContainerResponses = append(answer.ContainerResponses, given)
	}
	return answer, nil
}

func serve(resource, folder string) error {
	kubelet, err := os.Stat(api.KubeletSocket)
	if err != nil {
		return err
	}
	socket := filepath.Join(api.DevicePluginPath, endpoint)
	os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	defer server.Stop()
	api.RegisterDevicePluginServer(server, &plugin{folder: folder})
	go server.Serve(listener)
	connection, err := grpc.NewClient("unix:"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	within, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: endpoint, ResourceName: resource}
	if _, err := api.NewRegistrationClient(connection).Register(within, request); err != nil {
		return err
	}
	log.Print("registered")
	for {
		time.Sleep(pause)
		now, err := os.Stat(api.KubeletSocket)
		if err != nil {
			return fmt.Errorf("the kubelet is away: %w", err)
		}
		// The number of a file that is gone may be the new one's.
		if !os.SameFile(kubelet, now) || !kubelet.ModTime().Equal(now.ModTime()) {
			return fmt.Errorf("the kubelet began anew")
		}
	}
}

func main() {
	for {
		log.Print(serve(os.Args[1], os.Args[2]))
		time.Sleep(pause)
	}
}
